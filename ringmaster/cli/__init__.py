"""The `ringmaster` command."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; does not return."""
    # The services import this package without the commands.
    from ringmaster.cli.app import app  # noqa: PLC0415
    from ringmaster.cli.streams import run_command  # noqa: PLC0415

    run_command(app, "ringmaster")
