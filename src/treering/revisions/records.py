"""The records of revisions, by name and version."""

REVISION_RECORD = ("revision", 1)
REVISIONS_RECORD = ("revisions", 1)
