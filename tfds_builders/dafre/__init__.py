"""DAF:re: anime faces from Danbooru2018, from the released or the raw files."""
