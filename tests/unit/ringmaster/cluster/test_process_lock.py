from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringmaster.cluster.process_lock import FlockLiveness
from ringmaster.errors import DuplicateId

HOLD = """
import sys
from pathlib import Path
from ringmaster.cluster.process_lock import FlockLiveness
lock = FlockLiveness(Path(sys.argv[1])).hold("n1")
print(*lock.identity, flush=True)
sys.stdin.read()
"""


def start_holder(directory: Path) -> tuple[subprocess.Popen[bytes], tuple[int, int]]:
    command = [sys.executable, "-c", HOLD, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    device, inode = process.stdout.readline().split()
    return process, (int(device), int(inode))


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate(timeout=10)


def test_a_live_process_s_id_cannot_be_held_nor_its_death_proven(tmp_path: Path) -> None:
    process, identity = start_holder(tmp_path)
    try:
        liveness = FlockLiveness(tmp_path)
        with pytest.raises(DuplicateId, match="give this one another id"):
            liveness.hold("n1")
        assert liveness.prove_dead("n1", identity) is None
        liveness.hold("n2").release()
    finally:
        end(process)


def test_a_killed_process_is_proven_dead_at_once(tmp_path: Path) -> None:
    process, identity = start_holder(tmp_path)
    end(process)
    proof = FlockLiveness(tmp_path).prove_dead("n1", identity)
    assert proof is not None
    assert proof.identity == identity


def test_who_holds_the_proof_keeps_the_id_from_starting_again(tmp_path: Path) -> None:
    process, identity = start_holder(tmp_path)
    end(process)
    liveness = FlockLiveness(tmp_path)
    proof = liveness.prove_dead("n1", identity)
    assert proof is not None
    with pytest.raises(DuplicateId):
        liveness.hold("n1")
    proof.release()
    proof.release()
    liveness.hold("n1").release()


def test_a_stopped_process_is_not_dead(tmp_path: Path) -> None:
    process, identity = start_holder(tmp_path)
    try:
        process.send_signal(19)
        assert FlockLiveness(tmp_path).prove_dead("n1", identity) is None
    finally:
        process.send_signal(18)
        end(process)


def test_another_lock_file_of_the_same_name_proves_nothing(tmp_path: Path) -> None:
    process, identity = start_holder(tmp_path)
    try:
        (tmp_path / "n1.lock").rename(tmp_path / "aside")
        assert FlockLiveness(tmp_path).prove_dead("n1", identity) is None
    finally:
        end(process)


def test_proof_does_not_wait_for_children_that_outlive_the_process(tmp_path: Path) -> None:
    liveness = FlockLiveness(tmp_path)
    lock = liveness.hold("n1")
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        lock.release()
        assert liveness.prove_dead("n1", lock.identity) is not None
    finally:
        child.kill()
        child.wait(10)


def test_a_directory_that_is_gone_proves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "locks"
    liveness = FlockLiveness(directory)
    directory.rmdir()
    assert liveness.prove_dead("n1", (1, 2)) is None


def test_a_symbolic_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "n1.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        FlockLiveness(tmp_path).hold("n1")
    assert not target.exists()


def test_locks_are_for_their_owner_alone(tmp_path: Path) -> None:
    liveness = FlockLiveness(tmp_path / "locks")
    lock = liveness.hold("n1")
    assert (tmp_path / "locks").stat().st_mode & 0o077 == 0
    assert (tmp_path / "locks" / "n1.lock").stat().st_mode & 0o077 == 0
    assert liveness.boot_id
    assert lock.identity == (
        os.stat(tmp_path / "locks" / "n1.lock").st_dev,
        os.stat(tmp_path / "locks" / "n1.lock").st_ino,
    )
    lock.release()
