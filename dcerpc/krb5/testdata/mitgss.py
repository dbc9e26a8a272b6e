"""A peer for kdc_test.go: MIT's GSS-API, driven over stdin and stdout with a line of JSON for each request and reply.

usage: mitgss.py init TARGET FLAGS | mitgss.py accept
"""
import base64
import json
import sys

import gssapi
from gssapi.raw import IOV, IOVBufferType, inquire_sec_context_by_oid, unwrap_iov, wrap_iov

SESSION_KEY = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2.5.5")


def buffers(req, head):
    parts = [head]
    if req["sign"]:
        parts.append((IOVBufferType.sign_only, base64.b64decode(req["header"])))
    parts.append((IOVBufferType.data, base64.b64decode(req["body"])))
    if req["sign"]:
        parts.append((IOVBufferType.sign_only, base64.b64decode(req["trailer"])))
    return IOV(*parts, std_layout=False)


def data_of(iov):
    return next(b.value for b in iov if b.type == IOVBufferType.data)


def handle(ctx, req):
    op = req["op"]
    if op == "step":
        token = ctx.step(base64.b64decode(req["token"]) if req["token"] else None)
        return {"token": token or b"", "done": ctx.complete}
    if op == "wrap":
        iov = buffers(req, IOVBufferType.header)
        if not wrap_iov(ctx, iov, confidential=True):
            raise RuntimeError("not sealed")
        return {"token": iov[0].value, "body": data_of(iov)}
    if op == "unwrap":
        iov = buffers(req, (IOVBufferType.header, False, base64.b64decode(req["token"])))
        if not unwrap_iov(ctx, iov).encrypted:
            raise RuntimeError("not sealed")
        return {"body": data_of(iov)}
    if op == "mic":
        return {"token": ctx.get_signature(base64.b64decode(req["body"]))}
    if op == "verify":
        ctx.verify_signature(base64.b64decode(req["body"]), base64.b64decode(req["token"]))
        return {}
    if op == "key":
        return {"token": inquire_sec_context_by_oid(ctx, SESSION_KEY)[0]}
    if op == "name":
        return {"text": str(ctx.initiator_name)}
    raise ValueError(op)


def main():
    if sys.argv[1] == "init":
        name = gssapi.Name(sys.argv[2], gssapi.NameType.kerberos_principal)
        ctx = gssapi.SecurityContext(name=name, usage="initiate", mech=gssapi.MechType.kerberos, flags=int(sys.argv[3]))
    else:
        ctx = gssapi.SecurityContext(creds=gssapi.Credentials(usage="accept"), usage="accept")
    for line in sys.stdin:
        try:
            out = handle(ctx, json.loads(line))
        except Exception as e:
            out = {"error": f"{type(e).__name__}: {e}"}
        out = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in out.items()}
        print(json.dumps(out), flush=True)


main()
