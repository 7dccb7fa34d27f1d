"""DAF:re: anime faces from Danbooru2018, as released or from the raw DAF files."""
