"""The command connector on a real Slurm against the contract that all connectors share: here, and over a real sshd."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_kit import CommandRig, SshServer
from slurm_kit import SlurmCluster

from connectors.base import Checkable, Preparable, Scripted
from connectors.command import CommandOptions, OpenSshTransport
from connectors.contract import ComputeContract, DarknessContract, HealthContract, SiteContract, new_key
from connectors.errors import CredentialError, SiteUnreachable
from connectors.model import Accepted
from connectors.ssh.transport import Transport


class TestSlurmByCommands(SiteContract):
    # the files' half of these is tried with every shell, see test_shell_files.py
    test_an_unsafe_path_is_refused_by_every_verb = None
    test_of_several_files_none_is_written_outside = None

    @pytest.fixture
    def rig(self, slurm_cluster: SlurmCluster, tmp_path: Path) -> Iterator[CommandRig]:
        rig = CommandRig(slurm_cluster, tmp_path)
        yield rig
        rig.end()

    def test_it_can_be_prepared_scripted_and_checked(self, rig: CommandRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert isinstance(site, Scripted)
        assert isinstance(site, Checkable)
        assert site.prepare() == rig.connect().prepare()


class SshRig(CommandRig):
    """Dark is: the ssh server is gone, and with it the shared connection."""

    def __init__(self, cluster: SlurmCluster, folder: Path, server: SshServer) -> None:
        self.server = server
        super().__init__(
            cluster,
            folder,
            host="there",
            ssh_config=str(server.config),
            control=str(server.folder / "c"),
            connect_timeout=5,
        )

    def transport(self, options: CommandOptions) -> Transport:
        return OpenSshTransport(site="there", options=options)

    def darken(self) -> None:
        self.server.stop()
        self.wires[-1].close()

    def brighten(self) -> None:
        self.server.start()

    def end(self) -> None:
        if not self.server.runs():
            self.server.start()
        super().end()


@pytest.fixture(scope="module")
def ssh_server() -> Iterator[SshServer]:
    # a connection's socket has to have a short path
    with tempfile.TemporaryDirectory(prefix="cfssh") as folder, SshServer(Path(folder)) as server:
        yield server


@pytest.fixture
def ssh_rig(slurm_cluster: SlurmCluster, tmp_path: Path, ssh_server: SshServer) -> Iterator[SshRig]:
    rig = SshRig(slurm_cluster, tmp_path, ssh_server)
    yield rig
    rig.end()


OVER_SSH = {
    "test_a_batch_is_answered_key_by_key",
    "test_a_canceled_job_ends_and_is_canceled",
    "test_a_job_goes_on_in_the_dark_and_is_found_afterwards",
    "test_a_lost_reply_leaves_a_job_that_is_found_and_adopted",
    "test_a_new_connector_object_learns_how_a_job_ended",
    "test_a_probe_of_a_dark_site_says_so_and_does_not_raise",
    "test_a_probe_of_a_healthy_site_has_only_good_news",
}
"""Only the wire is another than above, and each call over it costs a process at its other end."""


class TestSlurmOverSsh(ComputeContract, DarknessContract, HealthContract):
    @pytest.fixture
    def rig(self, ssh_rig: SshRig) -> SshRig:
        return ssh_rig


for _name in dir(TestSlurmOverSsh):
    if _name.startswith("test_") and _name not in OVER_SSH:
        setattr(TestSlurmOverSsh, _name, None)


def test_a_host_that_does_not_know_our_key_is_a_matter_of_credentials_not_an_outage(ssh_rig):
    ssh_rig.wires[-1].close()
    authorized = ssh_rig.server.folder / "authorized"
    keys = authorized.read_bytes()
    authorized.write_bytes(b"")
    try:
        site = ssh_rig.connect()
        with pytest.raises(CredentialError, match="crossfade login there"):
            site.status([new_key()])
        assert [(it.capability, it.ok) for it in site.probe()] == [("credentials", False)]
        (finding,) = site.check()
        assert (finding.step, finding.ok, finding.help) == ("credentials", False, "crossfade login there")
    finally:
        authorized.write_bytes(keys)
    assert site.status([new_key()]).complete


def test_a_host_with_another_key_than_the_known_one_is_not_spoken_to(ssh_rig):
    ssh_rig.wires[-1].close()
    known = ssh_rig.server.folder / "known"
    told = known.read_text()
    other = (ssh_rig.server.folder / "user.pub").read_text().split()[1]
    known.write_text(f"{told.split()[0]} ssh-ed25519 {other}\n")
    try:
        with pytest.raises(CredentialError, match="host key"):
            ssh_rig.connect().status([new_key()])
    finally:
        known.write_text(told)


def test_a_port_where_nobody_listens_has_surely_done_nothing(ssh_rig):
    ssh_rig.darken()
    with pytest.raises(SiteUnreachable) as caught:
        ssh_rig.connect().status([new_key()])
    assert not caught.value.effect_possible


def test_the_connection_that_a_person_opens_serves_the_broker_without_any_key(ssh_rig):
    ssh_rig.wires[-1].close()
    login = ssh_rig.connect().login()
    assert "BatchMode=yes" not in login
    subprocess.run(login, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    authorized = ssh_rig.server.folder / "authorized"
    keys = authorized.read_bytes()
    authorized.write_bytes(b"")
    try:
        assert ssh_rig.connect().status([new_key()]).complete
    finally:
        authorized.write_bytes(keys)


def test_words_of_a_login_shell_are_not_taken_for_the_reply(ssh_rig, tmp_path):
    """ForceCommand is how the server here plays another login shell, with something to say at every login."""
    loud = tmp_path / "loud"
    loud.write_text(
        "#!/bin/sh\necho Welcome; echo 'disk nearly full' >&2\n/bin/bash -c \"$SSH_ORIGINAL_COMMAND\"\necho bye\n"
    )
    loud.chmod(0o755)
    settings = ssh_rig.server.folder / "sshd_config"
    told = settings.read_text()
    ssh_rig.darken()
    settings.write_text(f"{told}ForceCommand {loud}\n")
    ssh_rig.brighten()
    try:
        site, key = ssh_rig.connect(), new_key()
        assert isinstance(site.submit([ssh_rig.job(key)])[key], Accepted)
        assert site.read(f"runs/{key}/job.sh")
        ssh_rig.wait_until(lambda: site.status([key]).items[0].state.final, within=20)
    finally:
        ssh_rig.darken()
        settings.write_text(told)
        ssh_rig.brighten()
