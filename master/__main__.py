"""`python -m master …`, which `ringmaster master …` becomes."""

from master.app import run
from ringmaster.cli.options import run_service
from ringmaster.config.settings import MasterSettings

run_service(MasterSettings, run)
