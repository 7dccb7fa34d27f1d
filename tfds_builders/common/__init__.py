"""Shared by the builders: checks of manual folders, the split rules, and a limit on the memory of a build."""
