"""Becomes a server process that cannot outlive the process that started it.

Run as a script by `redphone.local_process`, never imported: `local_child.py PARENT UID GID COMMAND…`. It gives up root
where that is asked for, has the kernel send it SIGINT when its parent dies (Linux; both servers then stop in good
order), and then *becomes* the command, so that the parent holds the server's own process id and exit status.

PostgreSQL refuses to run as root. Root's data directory stays closed to everybody else all the same: the server keeps
one capability, to read past directory permissions, instead of opening the directories above it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


def _held_capabilities() -> int:
    """The permitted capabilities of this process as a bit mask; 0 where the system knows none."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - runs without the path library
            return next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))
    except (OSError, StopIteration):
        return 0


def become_user(uid: int, gid: int) -> None:
    """Give up root for good, keeping only the ability to pass closed directories where the system has such a thing.

    Containers often grant root CAP_DAC_OVERRIDE but not the narrower CAP_DAC_READ_SEARCH, which is taken if it is
    there.
    """
    held = _held_capabilities()
    keep = next((bit for bit in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if held >> bit & 1), None)
    libc = ctypes.CDLL(None, use_errno=True)
    if keep is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep is not None:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        mask = 1 << keep
        data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; low and high words
        libc.capset(header, data)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, keep, 0, 0)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGINT at the parent's death, and leave at once if it is already dead.

    The kernel means the *thread* that started this process: whoever calls this from a thread must keep that thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def main(arguments: list[str]) -> None:
    """Replace this process by the command."""
    parent, uid, gid = (int(argument) for argument in arguments[:3])
    command = arguments[3:]
    if os.geteuid() != uid:
        become_user(uid, gid)
    die_with(parent)  # after the change of user, which would clear it
    os.execv(command[0], command)  # noqa: S606 - the command is made by redphone.local_process, no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
