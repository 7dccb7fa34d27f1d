"""What the builders share: checks of manual folders, the split rules, and the memory that a build takes."""
