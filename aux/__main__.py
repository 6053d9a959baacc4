"""`python -m aux …`, which `ringmaster aux …` becomes."""

from aux.app import run
from ringmaster.cli.options import run_service
from ringmaster.settings import AuxSettings

run_service(AuxSettings, run)
