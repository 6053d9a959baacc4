"""`python -m aux …`, which `ringmaster aux …` becomes."""

from aux.storage.memory_accounting import restart_with_malloc, tune_allocator


def main() -> None:
    """Choose the allocator first: what is allocated before stays where it is."""
    restart_with_malloc()
    tune_allocator()
    from aux.app import run  # noqa: PLC0415 - see above
    from ringmaster.cli.options import run_service  # noqa: PLC0415
    from ringmaster.config.settings import AuxSettings  # noqa: PLC0415

    run_service(AuxSettings, run)


if __name__ == "__main__":
    main()
