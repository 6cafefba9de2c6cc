# Runs each test of /root/tests/list, "PROGRAM TEST" a line, in a process of its own.

# Each test that is stuck fails by itself; the whole guest has a limit, too.
limit=150
while read -r program name; do
  echo "# begins $program $name at $(cut -d. -f1 /proc/uptime) s"
  timeout -s KILL $limit "/root/tests/$program" --exact "$name" --include-ignored --test-threads 1 >/tmp/output 2>&1 </dev/null
  code=$?
  if [ $code -eq 0 ]; then echo "ok $program $name"; else
    echo "not ok $program $name: exit code $code"
    tail -n 60 /tmp/output | sed 's/^/# /'
  fi
done </root/tests/list
echo "all done"
