# One build of an unmodified Buildbot: its master here, its worker in a container that Docker's latent worker makes
# for the build and removes after it. Given: WORKER, an image that runs `buildbot.sh worker`.
set -e
cd /tmp
bin=/opt/client/bin
if [ "${1:-}" = worker ]; then
  python3 $bin/buildbot-worker create-worker worker "$BUILDMASTER:$BUILDMASTER_PORT" "$WORKERNAME" "$WORKERPASS"
  exec python3 $bin/buildbot-worker start --nodaemon worker
fi
python3 $bin/buildbot create-master master >made 2>&1 || { cat made; exit 1; }
cp $SDKS/master.cfg master/
python3 $bin/buildbot start --nodaemon master >log 2>&1 &
until test -e master/built && grep -q 'Stopping container' master/twistd.log; do
  kill -0 $! && ! grep -q -e 'in quarantine' -e 'results:failure' -e 'results:exception' master/twistd.log || { cat log master/twistd.log; exit 1; }
  sleep 0.2
done
cat master/up
kill $!
wait
