"""Whether the bytes that a Hub sends are those whose digest it lists."""

from collections.abc import Iterator

from treering.hub.audit.contents import Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.strangers import named, shown


def check_whole_files(contents: Contents) -> Iterator[Finding]:
    """Yield the files of weights that were read whole and have another digest than was listed."""
    for digest, scan in contents.scans.items():
        if digest.startswith("sha256:") and scan.digest != digest:
            places = [
                (branch.name, fact.path)
                for branch in contents.listing.everything
                for fact in branch.files.values()
                if fact.digest == digest
            ]
            names = tuple(dict.fromkeys(name for name, _ in places))
            problem = f"{shown(places[0][1])} of {named(names)} is not the file that is listed"
            evidence = (f"listed: {digest}", f"sent: {scan.digest}")
            yield Finding("other bytes", Severity.ERROR, names, problem, evidence, "upload it again, and tell the Hub")
