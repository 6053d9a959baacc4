"""What the self-audit counts."""

from master.audit.findings import Findings


def test_time_without_service_is_counted_once() -> None:
    findings = Findings()
    findings.served(1.0)
    findings.failed(10.0, 17.0)
    assert findings.unavailable_s == 7.0
    findings.failed(18.0, 25.0)
    assert findings.unavailable_s == 15.0
    findings.served(26.0)
    assert findings.unavailable_s == 16.0
    findings.served(90.0)
    assert findings.unavailable_s == 16.0


def test_nothing_is_counted_before_anything_was_served() -> None:
    findings = Findings()
    findings.failed(1.0, 8.0)
    findings.served(9.0)
    assert findings.unavailable_s == 0.0


def test_all_kinds_of_operations_are_there_from_the_beginning() -> None:
    assert len(Findings().operations) == 8
