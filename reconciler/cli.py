"""`tidegate`: run the reconciler, check policies, see what is enforced.

Exit codes: 0 fine, 1 the answer is "no" (refused, different, not ready), 2 it could not run.
"""

from __future__ import annotations

from typing import Final

import click

from reconciler.lazy_commands import LazyGroup

COMMANDS: Final = {
    "acknowledge": "reconciler.cli_state:acknowledge",
    "diff": "reconciler.cli_policies:diff",
    "encrypt": "reconciler.encryption.cli:encrypt",
    "explain": "reconciler.explain.cli:explain",
    "keys": "reconciler.sign.keys_cli:keys",
    "preview": "reconciler.preview.cli:preview",
    "rollout": "reconciler.staging.cli:rollout",
    "run": "reconciler.cli_run:run",
    "status": "reconciler.cli_state:status",
    "test": "reconciler.intents.cli:test",
    "validate": "reconciler.cli_policies:validate",
}


@click.group(
    cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="tidegate")
def main() -> None:
    """GitOps for zero-trust network policy, enforced in the kernel.

    \b
    Examples:
      tidegate validate .                    check the policies in this folder
      tidegate diff main HEAD                what a branch would change
      tidegate test .                        do they do what tests/*.yaml says
      tidegate preview --flows flows.json    which flows of yesterday would be cut
      tidegate explain shop/web 10.0.0.1 443 --inventory inventory.yaml
                                             who lets it pass, or not, and why
      tidegate keys init keys --node node-a  make signing keys and certificates
      tidegate run --config reconciler.yaml  run the reconciler
      tidegate status                        what is published, and who enforces it
      tidegate rollout status                what a new revision would cut, and where it is
      tidegate encrypt status                how the nodes encrypt what they say to each other
    \b
    Exits 0 for done or yes, 1 for no, 2 if it cannot be told; each command's help says more.
    """
