"""The errors that treering raises, and the exit code each one ends the command line with.

TreeringError
├── InputError           exit 2   the user can mend it
│   ├── RecipeError               lists every problem at once
│   ├── CorpusError               a file or document cannot be read as declared
│   └── NotFetchedError           files were left out when the run was fetched
├── IntegrityError       exit 1   bytes are not what their digest says
│   ├── ManifestError             file missing, extra, or changed
│   └── FormatError               version or layout unknown
├── NonFiniteError       exit 1   training met a NaN or an infinity: step, batch, tensors
├── ReproductionError    exit 1   a re-run or a re-implementation differs: what, where, both values
├── ClaimError           exit 1   a card's number does not follow from its record
├── PublishError         exit 1   what a Hub serves is not what was published: branch and file
├── EnvironmentMismatch  exit 3   machine or software is not the recorded one; lists the differences
│   ├── StorageError              the disk is full or a folder cannot be written
│   └── RankError                 another process of the run has ended; names it
└── PreemptionError      exit 75  told to stop, and stopped after a checkpoint: the same command goes on
"""

from collections.abc import Sequence


class TreeringError(Exception):
    """A failure treering can explain: where it is, what was expected, what was found, what to do next."""

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        advice: str | None = None,
    ) -> None:
        self.problem = problem
        self.where = where
        self.expected = expected
        self.found = found
        self.advice = advice
        super().__init__(self._message())

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every part when the error crosses from a worker process."""
        return _restore, (type(self), self.__dict__)

    def _message(self) -> str:
        lines = [self.problem if self.where is None else f"{self.where}: {self.problem}"]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.advice is not None:
            lines.append(f"  do:       {self.advice}")
        return "\n".join(lines)


class InputError(TreeringError):
    """The user's input is wrong and the user can mend it."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe is wrong; every problem found is listed at once."""

    def __init__(self, where: object, problems: Sequence[str], advice: str | None = None) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"{count} problem{'s' if count != 1 else ''} in this recipe"
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in self.problems)]), where=where, advice=advice)


class CorpusError(InputError):
    """A corpus file or document cannot be read as declared."""


class NotFetchedError(InputError):
    """Files that this takes were left out when the run was fetched, and are not here."""


class IntegrityError(TreeringError):
    """Bytes are not what their digest says."""


class ManifestError(IntegrityError):
    """A file that a manifest lists is missing or changed, or there is one that it does not list."""


class FormatError(IntegrityError):
    """A file's format, version or layout is not one that this version of treering reads."""


class NonFiniteError(TreeringError):
    """Training met a NaN or an infinity."""


class ReproductionError(TreeringError):
    """A re-run or a second implementation gives other numbers."""


class ClaimError(TreeringError):
    """A number in a card does not follow from the record it points to."""


class PublishError(TreeringError):
    """What the Hub serves is not what was published."""


class EnvironmentMismatch(TreeringError):
    """The machine or the software is not what is recorded or needed."""

    exit_code = 3


class StorageError(EnvironmentMismatch):
    """The disk is full, or a folder cannot be written."""


class RankError(EnvironmentMismatch):
    """Another process that trained the same run has ended."""


class PreemptionError(TreeringError):
    """A signal asked for an end, and the work so far was kept."""

    exit_code = 75  # EX_TEMPFAIL: try again later


def _restore(kind: type[TreeringError], state: dict[str, object]) -> TreeringError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    Exception.__init__(error, error._message())
    return error


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether there was no memory, in Python's words or in torch's, of a GPU's or a processor's."""
    if isinstance(error, RuntimeError):
        words = ("DefaultCPUAllocator", "CUDA error: out of memory")
        return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in words)
    return isinstance(error, MemoryError)
