"""Progress that nobody watches."""

from treering.provenance.progress import SILENCE


def test_silence_takes_everything_and_shows_nothing(capsys) -> None:
    with SILENCE.task("reading", total=3, unit="bytes") as task:
        task.advance()
        task.advance(2)
        task.note("loss 3.1")
    assert capsys.readouterr() == ("", "")
