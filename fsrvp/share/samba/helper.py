# The helper of the Go package samba: it changes Samba's registry shares and ends their use by the public bindings of
# python3-samba, without a program for each step. It reads one request a line from standard input, in JSON, writes one
# answer a line, and ends with its input.
import json
import os
import sys
import time

import samba
import samba.messaging
import samba.param
from samba import smbconf
from samba.dcerpc import messaging as msg
from samba.samba3 import param, smbconf as s3conf

MOST = 255  # bytes of a share's name; longer ones break the registry for all

lp = param.get_context()
conf = sys.argv[1] or samba.param.default_path()
lp.load(conf)  # or raises
if lp.get("clustering"):
    raise RuntimeError("Samba is clustered")


def place():
    """Returns what the registry's database is known by, whatever is in it."""
    info = os.stat(os.path.join(lp.get("state directory"), "registry.tdb"))
    return info.st_dev, info.st_ino


registry = s3conf.init_reg(None)
opened = place()
messages = samba.messaging.Messaging((0,))
parent = os.getppid()
waited = set()  # for the pongs of these processes
messages.register((lambda context, kind, src, data: waited.discard(src.pid), None), msg.MSG_PONG)


def stat(pid):
    """Returns a process's name, state and parent, or three times None."""
    try:
        f = os.open("/proc/%d/stat" % pid, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(f, 4096).decode(errors="replace")
        finally:
            os.close(f)
    except OSError:
        return None, None, None
    rest = text[text.rindex(")") + 2:].split()
    return text[text.index("(") + 1:text.rindex(")")], rest[0], int(rest[1])


def smbd():
    """Returns the id of smbd's first process, or None."""
    try:
        with open(os.path.join(lp.get("pid directory"), "smbd.pid")) as f:
            pid = int(f.read())
    except (OSError, ValueError):
        return None
    name, state, _ = stat(pid)
    return pid if name and name.startswith("smbd") and state not in "ZX" else None


def numbers(path):
    try:
        return {int(n) for n in os.listdir(path) if n.isdigit()}
    except OSError:
        return set()


def children(first):
    """Returns the other processes of smbd: all of a first process, and what one that is gone has left."""
    try:
        with open("/proc/%d/task/%d/children" % (first, first)) as f:
            some = {int(n) for n in f.read().split()}
    except OSError:  # a kernel without it
        some = numbers("/proc")
    found = set()
    for pid in some | known():
        name, state, up = stat(pid)
        if name and name.startswith("smbd") and state not in "ZX" and pid != first and (up == first or pid not in some):
            found.add(pid)
    return found


def known():
    """Returns the processes that take messages."""
    return numbers(os.path.join(lp.get("lock directory"), "msg.lock")) - {os.getpid()}


def send(pid, kind, data=b""):
    try:
        messages.send((pid, 0), kind, data)
        return True
    except Exception:  # it is gone, or takes no messages yet
        return False


def tell(orders, end):
    """Sends processes the messages that each is to get, and returns when all have dealt with them, or are gone."""
    waited.clear()
    unsent = dict(orders)
    while True:
        for pid, kinds in list(unsent.items()):
            if all([send(pid, kind, data) for kind, data in kinds + [(msg.MSG_PING, b"")]]):
                waited.add(pid)
                del unsent[pid]
        if not unsent and not waited:
            return
        before = len(waited)
        messages.loop_once(0.005 if unsent else 0.02)
        if len(waited) < before:
            continue
        gone = {pid for pid in waited.union(unsent) if stat(pid)[1] in (None, "Z", "X")}
        waited.difference_update(gone)
        for pid in gone.intersection(unsent):
            del unsent[pid]
        if (unsent or waited) and time.monotonic() > end:
            raise TimeoutError("smbd's processes %s do not answer" % sorted(waited.union(unsent)))


def checked(name):
    if not 0 < len(name.encode()) <= MOST or name.lower() == "global":
        raise ValueError("a share cannot have that name")
    return name


def transaction(change):
    registry.transaction_start()
    try:
        change()
        if os.getppid() != parent:
            raise RuntimeError("nobody waits for it")
    except BaseException:
        registry.transaction_cancel()
        raise
    registry.transaction_commit()


def share(name):
    try:
        found = registry.get_share(name)
        return {"name": found[0], "params": found[1]}
    except smbconf.SMBConfError as e:
        if e.error_code == smbconf.SBC_ERR_NO_SUCH_SERVICE:
            return None
        raise


def get(r):
    return {"shares": [share(n) for n in r["names"]]}


class There(Exception):
    """Is raised for a share that is to be made and is there already."""


def define(r):
    def change():
        for s in r["shares"]:
            if share(checked(s["name"])) is not None:
                raise There(s["name"])
            registry.create_set_share(s["name"], [(k, v) for k, v in s["params"]])
    try:
        transaction(change)
    except There as e:
        return {"there": str(e)}
    return {}


def set_params(r):
    def change():
        for s in r["shares"]:
            for k, v in s["params"]:
                registry.set_parameter(checked(s["name"]), k, v)
    transaction(change)
    return {}


def delete(r):
    def change():
        for n in r["delete"]:
            if share(n) is not None:
                registry.delete_share(checked(n))
    transaction(change)


def end(r):
    """Deletes shares, where some are named, has smbd's processes read the shares again, and disconnects who uses those
    of the names."""
    if r.get("delete"):
        delete(r)
    limit = time.monotonic() + r["within"]
    first = smbd()
    if first is None:
        return {"smbd": 0}
    updated = (msg.MSG_SMB_CONF_UPDATED, b"")
    cut = [(msg.MSG_SMB_FORCE_TDIS, n.encode() + b"\0") for n in r.get("names", [])]
    # Only a share that nobody uses is forgotten, so it is cut off before; and after, for who has come meanwhile.
    both = cut + [updated] + cut
    servers = children(first)
    orders = dict.fromkeys(servers, both)
    orders[first] = [updated]
    tell(orders, limit)
    # What the first process has forked before it had read the shares again knows the old ones.
    late = children(first) - servers
    if late:
        tell(dict.fromkeys(late, both), limit)
        servers |= late
    after.extend((pid, updated) for pid in known() - servers - {first})  # who lists shares
    return {"smbd": 1 + len(servers)}


after = []  # messages that nobody waits for: they are sent when the answer is on its way


def main():
    operations = {"get": get, "define": define, "set": set_params, "end": end}
    answer({"id": 0, "version": samba.version, "conf": conf, "statedir": lp.get("state directory")})
    for line in sys.stdin:
        request = json.loads(line)
        result = {"id": request["id"]}
        try:
            result.update(operations[request["op"]](request))
        except Exception as e:
            result["error"] = "%s: %s" % (type(e).__name__, e)
        if place() != opened:  # what was done was done to one that nobody else has
            sys.exit("the registry's database was replaced")
        answer(result)
        for pid, (kind, data) in after:
            send(pid, kind, data)
        after.clear()


def answer(result):
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


main()
