package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// servePostgres runs a database as the user postgres, since it refuses root.
func servePostgres(t *testing.T) (string, func(*testing.T, link)) {
	as, owner := postgresUser(t)
	bin := "/usr/lib/postgresql/*/bin"
	initdb, postgres, ctl := lookFor(t, "initdb", bin), lookFor(t, "postgres", bin), lookFor(t, "pg_ctl", bin)
	dir := filepath.Join(sharedDirectory(t, 0o755), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, owner.uid, owner.gid); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Credential: as}, dir
		return cmd
	}
	outputOf(t, run(initdb, "-D", dir, "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "-E", "UTF8"))
	addr, host, number := splitFree(t)
	startServer(t, run(postgres, "-D", dir, "-p", number, "-c", "listen_addresses="+host, "-c", "unix_socket_directories=", "-c", "fsync=off"), addr)
	t.Cleanup(func() { _ = run(ctl, "stop", "-D", dir, "-m", "immediate").Run() }) // ends the children as well
	return addr, usePostgres
}

func usePostgres(t *testing.T, l link) {
	at := []string{"-h", "127.0.0.1", "-p", l.port(), "-U", "postgres"}
	psql := func(query string) string {
		return output(t, "psql", append(at, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query)...)
	}
	output(t, "pgbench", append(at, "-i", "-q", "-s", "1", "postgres")...)
	wantOutput(t, psql("SELECT count(*) FROM pgbench_accounts"), "100000\n")
	wantOutput(t, psql("SELECT md5(repeat('mesh', 1000000))"), psql("SELECT md5('"+strings.Repeat("mesh", 1<<10)+"' || repeat('mesh', 998976))"))
	report := output(t, "pgbench", append(at, "-n", "-c", "4", "-j", "2", "-t", "50", "postgres")...)
	if want := "number of transactions actually processed: 200/200"; !strings.Contains(report, want) {
		t.Errorf("pgbench says %s, want %q", report, want)
	}
	wantOutput(t, psql("SELECT count(*) FROM pgbench_history"), "200\n")
}

type owner struct{ uid, gid int }

// postgresUser is the one to run a database as: oneself, or instead of root the user
// postgres.
func postgresUser(t *testing.T) (*syscall.Credential, owner) {
	t.Helper()
	if os.Getuid() != 0 {
		return nil, owner{os.Getuid(), os.Getgid()}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		skip(t, "postgres is not installed: "+err.Error())
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, owner{uid, gid}
}

func serveRedis(t *testing.T) (string, func(*testing.T, link)) {
	addr, host, number := splitFree(t)
	startServer(t, exec.Command("redis-server", "--bind", host, "--port", number, "--save", "", "--appendonly", "no", "--dir", t.TempDir()), addr)
	return addr, func(t *testing.T, l link) {
		at := []string{"-h", "127.0.0.1", "-p", l.port()}
		for _, pipelined := range []int{1, 16} {
			report := output(t, "redis-benchmark", append(at, "-q", "-c", "50", "-n", "2000", "-P", fmt.Sprint(pipelined), "-t", "set,get,lpush,lrange_100")...)
			if strings.Count(report, "requests per second") < 4 || strings.Contains(report, "rror") {
				t.Errorf("redis-benchmark says %s, want figures of all tests", report)
			}
		}
		wantOutput(t, output(t, "redis-cli", append(at, "SET", "key", strings.Repeat("v", 1<<16))...), "OK\n")
		wantOutput(t, output(t, "redis-cli", append(at, "STRLEN", "key")...), "65536\n")
	}
}
