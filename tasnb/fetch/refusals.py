"""Why the Hugging Face hub refuses a repository, and what to do about it."""

from __future__ import annotations


def refusal(error: BaseException) -> str:
    """One line for a repository that the hub refuses; "" if the error, or its cause, is another.

    Repositories that have moved are not refused: the hub redirects to their new names.
    """
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
    )

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    repo = getattr(cause, "repo_id", None) or "the repository"
    if isinstance(cause, GatedRepoError):  # a kind of RepositoryNotFoundError
        return (
            f"{repo} is gated: accept its conditions at https://huggingface.co/{repo}, wait for "
            "access if it is not immediate, and log in with `hf auth login`"
        )
    if isinstance(cause, RepositoryNotFoundError):
        return (
            f"{repo} is not on the hub, or is private: check the spelling and whether it was "
            "renamed; for a private one, log in with `hf auth login`"
        )
    if isinstance(cause, DisabledRepoError):
        return f"{repo} was disabled by the hub: choose another model"
    if cause.response is not None and cause.response.status_code == 401:
        return "the hub does not accept your token: log in again with `hf auth login`"
    return ""
