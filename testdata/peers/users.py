# users.py FILE: makes the accounts of FILE (name, password) in the directory; runs in dc before samba does.
import sys

import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load("/etc/samba/smb.conf")
db = SamDB(url=lp.private_path("sam.ldb"), session_info=system_session(), lp=lp)
base = db.domain_dn()


def modify(dn, flags, **values):
    m = ldb.Message(ldb.Dn(db, dn))
    for name, value in values.items():
        name = name.replace("_", "-")
        m[name] = ldb.MessageElement(value, flags, name)
    db.modify(m)


modify(base, ldb.FLAG_MOD_REPLACE, maxPwdAge="-9223372036854775808")  # never
with open(sys.argv[1]) as f:
    for line in f:
        if line.startswith("#") or line.startswith("Administrator "):
            continue
        db.newuser(*line.split())

# A server program of its own on the host agent. 24: AES128 and AES256.
modify("CN=agent,CN=Users," + base, ldb.FLAG_MOD_REPLACE,
       servicePrincipalName=["host/agent.fsrvp.test", "host/agent", "cifs/agent.fsrvp.test", "cifs/agent"],
       msDS_SupportedEncryptionTypes="24")

# What samba_spnupdate would add some time later, and "net ads join" needs.
modify("CN=DC,OU=Domain Controllers," + base, ldb.FLAG_MOD_ADD,
       servicePrincipalName=["ldap/dc.fsrvp.test", "ldap/dc", "ldap/dc.fsrvp.test/fsrvp.test",
                             "ldap/dc.fsrvp.test/FSRVP", "GC/dc.fsrvp.test/fsrvp.test"])
