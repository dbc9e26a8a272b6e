"""Calls an agent by impacket: PORT USER PASSWORD. Prints a line for each way."""
import struct
import sys

from impacket.dcerpc.v5 import transport
from impacket.dcerpc.v5.rpcrt import DCERPCException
from impacket.uuid import uuidtup_to_bin

AGENT = ("A8E0653C-2744-4389-A61D-7373DF8B2292", "1.0")
port, user, password = sys.argv[1:]


def dial(level, word):
    t = transport.DCERPCTransportFactory("ncacn_ip_tcp:127.0.0.1[%s]" % port)
    if level:
        t.set_credentials(user, word, "FSRVP")
    dce = t.get_dce_rpc()
    if level:
        dce.set_auth_level(level)
    dce.connect()
    return dce


def text(s):
    units = len(s) + 1
    b = struct.pack("<III", units, 0, units) + s.encode("utf-16le") + b"\0\0"
    return b + b"\0" * (-len(b) % 4)


def call(dce, opnum, stub):
    dce.call(opnum, stub)
    return dce.recv()


for level in (2, 5, 6):  # at 4, impacket does not log on
    for fragment in (None, 64):
        dce = dial(level, password)
        dce.bind(uuidtup_to_bin(AGENT))
        low, high, status = struct.unpack("<III", call(dce, 0, b""))
        if fragment:  # impacket sends nothing at all of an empty stub then
            dce.set_max_fragment_size(fragment)
        answer = call(dce, 8, text("\\\\fs1\\share"))
        supported, = struct.unpack("<I", answer[:4])
        status2, = struct.unpack("<I", answer[-4:])
        print("level", level, "fragment", fragment, "versions", low, high, hex(status), "supported", supported, hex(status2))
        dce.disconnect()

for name, level, word in (("wrong password", 6, password + "x"), ("no log-on", None, "")):
    try:
        dce = dial(level, word)
        dce.bind(uuidtup_to_bin(AGENT))
        print(name, "status", hex(struct.unpack("<I", call(dce, 0, b"")[-4:])[0]))
    except DCERPCException as e:
        print(name, "refused")
