"""Errors that a user can act on: one line each, exit status 1. Anything else is a bug and keeps its traceback."""


class PipelineError(Exception):
    """A problem outside the code (input, parameters, machine); its text is one line that ends in a remedy."""


class ParamsError(PipelineError):
    """params.yaml holds something the pipeline cannot use."""


class ManifestError(PipelineError):
    """A manifest breaks its schema or its invariants."""


class StageError(PipelineError):
    """A stage cannot go on because of one utterance or one file."""

    def __init__(self, utterance_id: str | None, path: object, detail: str) -> None:
        self.utterance_id = utterance_id
        self.path = path
        self.detail = detail
        where = ", ".join(str(part) for part in (path, f"utterance {utterance_id!r}" if utterance_id else None) if part)
        super().__init__(f"{where}: {detail}" if where else detail)


class RowRejected(Exception):
    """Raised by a row's computation: the utterance goes to the rejects table, the run goes on.

    `lasting` is False where the cause is the moment (an unreadable file), not the row's content: it is tried again.
    """

    def __init__(self, reason: str, detail: str, *, lasting: bool = True) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.lasting = lasting
