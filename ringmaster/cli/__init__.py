"""The `ringmaster` command."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; does not return."""
    # The services import this package without the commands.
    from ringmaster.cli.app import app  # noqa: PLC0415
    from ringmaster.cli.completion import PROGRAM, prepare_completion  # noqa: PLC0415
    from ringmaster.cli.streams import run_command  # noqa: PLC0415

    prepare_completion()
    run_command(lambda: app(prog_name=PROGRAM), PROGRAM)
