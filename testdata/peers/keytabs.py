# keytabs.py DIR ACCOUNT[:SERVICE,...]...: writes DIR/ACCOUNT.keytab for each, with the keys of the account under its
# own name and, for a service account, of SERVICE/ACCOUNT and SERVICE/ACCOUNT.fsrvp.test; runs in dc.
import sys

import samba.dckeytab  # gives Net its export_keytab
from samba.net import Net
from samba.param import LoadParm

lp = LoadParm()
lp.load("/etc/samba/smb.conf")
net = Net(None, lp)
for arg in sys.argv[2:]:
    account, _, services = arg.partition(":")
    host = account.rstrip("$").lower()
    principals = [account]
    for s in filter(None, services.split(",")):
        principals += [s + "/" + host, s + "/" + host + ".fsrvp.test"]
    for p in principals:
        net.export_keytab(keytab="%s/%s.keytab" % (sys.argv[1], host), principal=p)
