# ndr64server.py INTERFACE PORT: an FSRVP server on Scapy's DCE/RPC, which has NDR64, at a port of a network
# interface. It keeps no state: each answer is made of its request, so that it shows what was understood of it, and each
# request is a line of JSON on standard output. The layouts are those of MS-FSRVP's IDL (appendix A).
import json
import os
import sys
import threading
import uuid

from scapy.fields import StrFixedLenField, UUIDField
from scapy.layers.dcerpc import (
    DceRpcOp,
    DCERPC_Transport,
    NDRConfVarStrNullFieldUtf16,
    NDRFullPointerField,
    NDRIntField,
    NDRPacket,
    NDRPacketField,
    NDRSignedLongField,
    NDRUnion,
    NDRUnionField,
    register_dcerpc_interface,
)
from scapy.layers.msrpce.rpcserver import DCERPC_Server

BAD_STATE = 0x80042301


class GUID(NDRPacket):
    ALIGNMENT = (4, 4)
    fields_desc = [UUIDField("value", None, uuid_fmt=UUIDField.FORMAT_LE)]


class ShareMapping(NDRPacket):  # FSSAGENT_SHARE_MAPPING_1
    ALIGNMENT = (8, 8)
    fields_desc = [
        NDRPacketField("ShadowCopySetId", GUID(), GUID),
        NDRPacketField("ShadowCopyId", GUID(), GUID),
        NDRFullPointerField(NDRConfVarStrNullFieldUtf16("ShareNameUNC", ""), deferred=True),
        NDRFullPointerField(NDRConfVarStrNullFieldUtf16("ShadowCopyShareName", ""), deferred=True),
        NDRSignedLongField("CreationTimestamp", 0),
    ]


def guid(name):
    return NDRPacketField(name, GUID(), GUID)


def string(name):
    return NDRConfVarStrNullFieldUtf16(name, "")


def number(name):
    return NDRIntField(name, 0)


mapping = NDRUnionField(
    [
        (
            NDRFullPointerField(NDRPacketField("ShareMapping", None, ShareMapping)),
            (lambda pkt: pkt.ShareMapping and pkt.ShareMapping.tag == 1, lambda _, val: val.tag == 1),
        )
    ],
    StrFixedLenField("ShareMapping", b"", length=0),
    align=(4, 8),
    switch_fmt=("I", "I"),
)

# Opnum by opnum: name, fields of the request, fields of the response before the status.
methods = [
    ("GetSupportedVersion", [], [number("MinVersion"), number("MaxVersion")]),
    ("SetContext", [number("Context")], []),
    ("StartShadowCopySet", [guid("ClientShadowCopySetId")], [guid("ShadowCopySetId")]),
    (
        "AddToShadowCopySet",
        [guid("ClientShadowCopyId"), guid("ShadowCopySetId"), string("ShareName")],
        [guid("ShadowCopyId")],
    ),
    ("CommitShadowCopySet", [guid("ShadowCopySetId"), number("TimeOutInMilliseconds")], []),
    ("ExposeShadowCopySet", [guid("ShadowCopySetId"), number("TimeOutInMilliseconds")], []),
    ("RecoveryCompleteShadowCopySet", [guid("ShadowCopySetId")], []),
    ("AbortShadowCopySet", [guid("ShadowCopySetId")], []),
    (
        "IsPathSupported",
        [string("ShareName")],
        [number("SupportedByThisProvider"), NDRFullPointerField(string("OwnerMachineName"))],
    ),
    ("IsPathShadowCopied", [string("ShareName")], [number("ShadowCopyPresent"), number("ShadowCopyCompatibility")]),
    (
        "GetShareMapping",
        [guid("ShadowCopyId"), guid("ShadowCopySetId"), string("ShareName"), number("Level")],
        [mapping],
    ),
    ("DeleteShareMapping", [guid("ShadowCopySetId"), guid("ShadowCopyId"), string("ShareName")], []),
    ("PrepareShadowCopySet", [guid("ShadowCopySetId"), number("TimeOutInMilliseconds")], []),
]
packets = []
for name, request, response in methods:
    packets.append(
        (
            type(name + "_Request", (NDRPacket,), {"fields_desc": request}),
            type(name + "_Response", (NDRPacket,), {"fields_desc": response + [number("Return")]}),
        )
    )


def text(field):
    """The string of a field, without its counts."""
    while not isinstance(field, (bytes, str)):
        field = field[0] if isinstance(field, list) else field.value
    return field.decode() if isinstance(field, bytes) else field


def plain(field):
    if isinstance(field, int):
        return field
    return str(field.value) if isinstance(field, GUID) else text(field)


def spelled(field):
    """The string of a field in hexadecimal: of what it sends Scapy 2.6 counts the bytes of UTF-8, not the units of UTF-16."""
    return text(field).encode().hex()


def inverted(g):
    return GUID(value=uuid.UUID(bytes=bytes(255 - b for b in g.value.bytes)))


def answers(name, r):
    """The fields of the response to r; Return is 0 where it is not among them."""
    if name == "GetSupportedVersion":
        return {"MinVersion": 1, "MaxVersion": 1}
    if name == "StartShadowCopySet":
        return {"ShadowCopySetId": inverted(r.ClientShadowCopySetId)}
    if name == "AddToShadowCopySet":
        return {"ShadowCopyId": inverted(r.ClientShadowCopyId)}
    if name == "AbortShadowCopySet":
        return {"Return": BAD_STATE}
    if name == "IsPathSupported":
        return {"SupportedByThisProvider": 1, "OwnerMachineName": "owner of " + spelled(r.ShareName)}
    if name == "IsPathShadowCopied":
        return {"ShadowCopyPresent": 1, "ShadowCopyCompatibility": 6}
    if name == "GetShareMapping":
        value = None
        if text(r.ShareName) != "null":
            value = ShareMapping(
                ShadowCopySetId=r.ShadowCopySetId,
                ShadowCopyId=r.ShadowCopyId,
                ShareNameUNC=spelled(r.ShareName),
                ShadowCopyShareName="copy of " + spelled(r.ShareName),
                CreationTimestamp=132000000000000000,
            )
        return {"ShareMapping": NDRUnion(tag=r.Level, value=value)}
    return {}


def responder(name, request, response):
    def respond(self, req):
        r = req[request]
        print(json.dumps({"method": name, **{f.name: plain(getattr(r, f.name)) for f in request.fields_desc}}), flush=True)
        return response(ndr64=self.ndr64, **answers(name, r))

    return DCERPC_Server.answer(request)(respond)


def fail(args):
    sys.excepthook(args.exc_type, args.exc_value, args.exc_traceback)
    os._exit(1)


threading.excepthook = fail  # a client must not wait for a thread that has ended
register_dcerpc_interface(
    name="FileServerVssAgent",
    uuid=uuid.UUID("a8e0653c-2744-4389-a61d-7373df8b2292"),
    version="1.0",
    opnums={i: DceRpcOp(*p) for i, p in enumerate(packets)},
)
Server = type(
    "Server", (DCERPC_Server,), {m[0]: responder(m[0], *p) for m, p in zip(methods, packets)}
)
Server.spawn(DCERPC_Transport.NCACN_IP_TCP, iface=sys.argv[1], port=int(sys.argv[2]), ndr64=True)
