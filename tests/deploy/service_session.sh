# What an administrator does with the service, on the machine of tests/support/booted_machine.py. `test_service.py` reads the output.
files() {
  find /etc/systemd/system /etc/dialgate /usr/local/bin /var/lib/dialgate ! -type d 2>/dev/null | sort
}
until_is() { # a property of the service has a value
  timeout 60 sh -c "until test \"\$(systemctl show --value --property=$1 dialgate)\" = $2; do sleep 0.1; done"
}
files > /tmp/before

echo "= dry run"
/opt/dialgate/bin/dialgate install --dry-run
files | diff /tmp/before -

echo "= install"
/opt/dialgate/bin/dialgate install -- --name Zeta --contact privacy@zeta.example --country NL --accept-draft yes \
  --campaign z1 --purpose service --call-type agent --dialer http --caller-id +31201234567

echo "= again"
dialgate install

echo "= service"
systemctl show dialgate --property=Type,ActiveState,StatusText | sort
systemctl is-enabled dialgate.service registry-sync.timer
systemctl is-active registry-sync.timer
stat --format="%a %U:%G %n" /etc/dialgate /etc/dialgate/config/* /var/lib/dialgate /var/lib/dialgate/keys.json

echo "= commands"
SUDO_USER=anna dialgate revoke add +31612345678 --channel letter
dialgate ledger export /var/lib/dialgate/ledger.ndjson
grep --only-matching '"anna"' /var/lib/dialgate/ledger.ndjson
registry-sync run --once --json

echo "= frozen"
mkdir /etc/systemd/system/dialgate.service.d
printf '[Service]\nWatchdogSec=2\n' > /etc/systemd/system/dialgate.service.d/soon.conf
systemctl daemon-reload
systemctl restart dialgate
frozen="$(systemctl show --value --property=MainPID dialgate)"
kill -STOP "$frozen"
until_is NRestarts 1
until_is StatusText ready
test "$frozen" != "$(systemctl show --value --property=MainPID dialgate)"
journalctl --unit=dialgate --output=cat --grep='Watchdog timeout|Fatal Python error'
dialgate check --to +31612345678 --from +31201234567 --campaign z1 --json || test $? = 1
rm -r /etc/systemd/system/dialgate.service.d

echo "= undo"
dialgate install --undo
/opt/dialgate/bin/dialgate install --undo
echo "= kept"
files | comm -13 /tmp/before -

echo "= delete"
! echo no | /opt/dialgate/bin/dialgate install --undo --delete-data 2>&1
test -e /var/lib/dialgate/keys.json
echo /var/lib/dialgate | /opt/dialgate/bin/dialgate install --undo --delete-data
files | diff /tmp/before -
! grep dialgate /etc/passwd /etc/group

echo "= refused"
! runuser -u nobody -- /opt/dialgate/bin/dialgate install 2>&1
! /opt/dialgate/bin/dialgate install --delete-data 2>&1
cp -r /opt/dialgate /root/dialgate
! /root/dialgate/bin/python /opt/dialgate/bin/dialgate install 2>&1
mv /run/systemd/system /run/systemd/away
! /opt/dialgate/bin/dialgate install 2>&1
