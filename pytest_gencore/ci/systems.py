"""Which CI system the environment names, and what of it we write to."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

AUTO, NONE = "auto", "none"
VARIABLES: Final = {
    "github": "GITHUB_ACTIONS",
    "azure": "TF_BUILD",
    "buildkite": "BUILDKITE",
    "teamcity": "TEAMCITY_VERSION",
    "gitlab": "GITLAB_CI",
    "jenkins": "JENKINS_URL",
    "circleci": "CIRCLECI",
    "bazel": "TEST_UNDECLARED_OUTPUTS_DIR",
}
"""What each system sets in the environment of a job."""
_AGENT: Final = "buildkite-agent"


class Target(NamedTuple):
    """Where captures are told of."""

    system: str
    """One of ``VARIABLES``, or ``auto``: the environment names none."""
    place: str
    """GitHub: the file of the step's summary. Azure: a folder for files. Buildkite: the agent. Else empty."""
    base: str
    """The folder in which pytest was started: people know paths that are relative to it."""

    @property
    def is_program(self) -> bool:
        """Whether a program tells the system: no child for a process that runs tests."""
        return self.system == "buildkite"


def parse_ci(text: str) -> str:
    """Return the value of the option; raises ValueError."""
    if text not in (AUTO, NONE, *VARIABLES):
        raise ValueError(
            "expected auto, none, github, azure, buildkite, teamcity, gitlab, jenkins, circleci or bazel"
        )
    return text


def find_target(option: str, environ: Mapping[str, str], base: str) -> Target | None:
    """Return what to write to; None if there is nothing.

    GitLab, Jenkins and CircleCI read the junit XML and keep folders; Bazel keeps a folder: nothing to write.
    """
    system = option
    if option == AUTO:
        system = next((name for name, variable in VARIABLES.items() if environ.get(variable)), NONE)
    if system == "github":
        place = environ.get("GITHUB_STEP_SUMMARY", "")
    elif system == "azure":
        place = environ.get("AGENT_TEMPDIRECTORY", "")  # emptied when the job has ended
    elif system == "buildkite":
        found = shutil.which(_AGENT, path=environ.get("PATH"))
        place = os.path.abspath(found) if found else ""  # noqa: PTH100 - as PATH has it, links and all
    elif system == "teamcity":
        place = ""
    else:
        return None
    return Target(system, place, base)
