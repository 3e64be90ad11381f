"""The sections of a card, in the order in which they stand on it.

Reads: the recipe and the records of all stages before the card.
Writes: nothing; each section is a function of the claims that returns marked text.
Promises: every section stands on every card, its slots filled.
"""

from treering.card.claims import Claims
from treering.card.sections.architecture import architecture
from treering.card.sections.checkpoints import intermediate_checkpoints
from treering.card.sections.closing import about, citation, limitations, reproducing
from treering.card.sections.data import data
from treering.card.sections.evaluation import evaluation
from treering.card.sections.introduction import introduction, quick_start
from treering.card.sections.procedure import procedure

_SECTIONS = (
    introduction,
    quick_start,
    intermediate_checkpoints,
    architecture,
    data,
    procedure,
    evaluation,
    limitations,
    reproducing,
    citation,
    about,
)


def body(claims: Claims) -> str:
    """Return the card below its front matter, marked.

    Raises:
        ClaimError: When a record lacks a field that the card needs.
        FormatError: When a record is missing or cannot be read.
    """
    return "\n\n".join(section(claims) for section in _SECTIONS) + "\n"
