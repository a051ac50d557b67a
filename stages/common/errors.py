"""Errors that a user can act on: one line, exit status 1. Any other exception is a bug and keeps its traceback."""


class PipelineError(Exception):
    """Problem outside the code (input, parameters, machine); its message is one line that ends in a remedy."""


class ParamsError(PipelineError):
    """Invalid value in params.yaml."""


class ManifestError(PipelineError):
    """Manifest that violates its schema or invariants."""


class StageError(PipelineError):
    """Failure of a stage because of one utterance or file."""

    def __init__(self, utterance_id: str | None, path: object, detail: str) -> None:
        self.utterance_id = utterance_id
        self.path = path
        self.detail = detail
        where = ", ".join(str(part) for part in (path, f"utterance {utterance_id!r}" if utterance_id else None) if part)
        super().__init__(f"{where}: {detail}" if where else detail)


class RowRejected(Exception):
    """Rejection of one row, raised by its computation: the utterance is listed in the rejects and the run continues.

    `lasting` is False for a transient cause (an unreadable file): the next run tries the row again.
    """

    def __init__(self, reason: str, detail: str, *, lasting: bool = True) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.lasting = lasting
