"""What requests bring along, by its form: what has another is not read."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
_Size = Annotated[int, Field(ge=0, le=1 << 62)]
_Text = Annotated[str, Field(max_length=65_536)]
_Path = Annotated[str, Field(max_length=4096)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


AnyBody = TypeVar("AnyBody", bound=_Body)


class RepositoryBody(_Body):
    """Which repository is to be created or deleted."""

    name: _Path
    organization: _Path | None = None
    type: Literal["model", "dataset"] | None = None


class BranchBody(_Body):
    """From which revision a branch begins."""

    startingPoint: _Path | None = None


class TagBody(_Body):
    """The name of a tag."""

    tag: _Path


class YamlBody(_Body):
    """A card whose metadata are to be looked at."""

    content: str


class PathsBody(_Body):
    """The paths that are asked about."""

    paths: Annotated[list[_Path], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class PlannedFile(_Body):
    """A file that is going to be pushed: its first bytes, in base64, and its size."""

    path: _Path
    size: _Size
    sample: Annotated[str, Field(max_length=4096)] = ""


class PlanBody(_Body):
    """The files of a push to come."""

    files: list[PlannedFile]


class LargeObject(_Body):
    """A large file's content, by its SHA-256."""

    oid: _Sha256
    size: _Size


class BatchBody(_Body):
    """The contents that somebody means to upload."""

    operation: str
    objects: list[LargeObject]
    hash_algo: str = "sha256"


class Header(_Body):
    """What a commit is to say."""

    summary: Annotated[_Text, Field(min_length=1)]
    description: _Text = ""
    parentCommit: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{5,40}$")] | None = None


class SmallFile(_Body):
    """A file with its content."""

    path: str
    content: str
    encoding: Literal["base64"] = "base64"


class LargeFile(_Body):
    """A file whose content has been uploaded before."""

    path: str
    oid: _Sha256
    size: _Size | None = None


class Deleted(_Body):
    """What is to be taken out."""

    path: str


class HeaderLine(_Body):
    """The first line of a commit."""

    key: Literal["header"]
    value: Header


class SmallFileLine(_Body):
    """A line of a commit that puts a file with its content."""

    key: Literal["file"]
    value: SmallFile


class LargeFileLine(_Body):
    """A line that puts a file whose content came before."""

    key: Literal["lfsFile"]
    value: LargeFile


class DeletedLine(_Body):
    """A line that takes a file or a folder out."""

    key: Literal["deletedFile", "deletedFolder"]
    value: Deleted


Line = HeaderLine | SmallFileLine | LargeFileLine | DeletedLine
LINE = TypeAdapter[Line](Annotated[Line, Field(discriminator="key")])
