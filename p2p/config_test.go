package p2p

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
)

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mixed := slices.Clone(key)
	mixed[40] ^= 1
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"a short key", Config{Key: key[:32]}, "p2p: Config.Key has 32 bytes, not 64"},
		{"an empty key", Config{Key: ed25519.PrivateKey{}}, "p2p: Config.Key has 0 bytes, not 64"},
		{"a mixed key", Config{Key: mixed}, "p2p: Config.Key holds the public half of another key"},
		{"a negative time", Config{DialTimeout: -time.Second}, "p2p: Config.DialTimeout is negative: -1s"},
		{"an empty address", Config{Listen: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), nil}}, "p2p: Config.Listen[1] is empty"},
		{"all of them", Config{Key: key[:32], Listen: []multiaddr.Multiaddr{{}}, DialTimeout: -1},
			"p2p: Config.Key has 32 bytes, not 64\nConfig.Listen[0] is empty\nConfig.DialTimeout is negative: -1ns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := New(tt.config)
			if n != nil {
				n.Close()
			}
			checkText(t, "New", err, tt.want)
		})
	}
}

func TestConfigIsLeftAsItWas(t *testing.T) {
	config := Config{Listen: addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")}
	before := config
	before.Listen = slices.Clone(config.Listen)
	newTestNode(t, config)
	if !reflect.DeepEqual(config, before) {
		t.Errorf("after New the Config is %+v, want %+v", config, before)
	}
}

func TestConfigDefaults(t *testing.T) {
	got, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Key) != ed25519.PrivateKeySize {
		t.Errorf("default Key has %d bytes, want %d", len(got.Key), ed25519.PrivateKeySize)
	}
	if got.DialTimeout != 10*time.Second || got.Agent != "p2pnode" || got.Logger == nil {
		t.Errorf("defaults = %v, %q, %v, want 10s, p2pnode, a logger", got.DialTimeout, got.Agent, got.Logger)
	}
	other, err := Config{}.withDefaults()
	if err != nil || bytes.Equal(got.Key, other.Key) {
		t.Errorf("two nodes without a Key have the same, %v", err)
	}
	set := Config{
		Key: got.Key, Relay: Relay{Peers: 1, Circuits: 2, Rate: 3}, StreamLimit: time.Hour, StreamMemory: 1 << 20,
		DialTimeout: time.Minute, Agent: "a", Logger: slog.Default(),
	}
	if kept, err := set.withDefaults(); err != nil || !reflect.DeepEqual(kept, set) {
		t.Errorf("withDefaults of a full Config = %+v, %v, want %+v", kept, err, set)
	}
}

func TestAgentIsTold(t *testing.T) {
	a := newTestNode(t, Config{Agent: "gardener"})
	b := newTestNode(t, Config{})
	if err := b.Connect(testContext(t), a.ID(), a.Addrs()...); err != nil {
		t.Fatal(err)
	}
	if err := b.Identified(testContext(t), a.ID()); err != nil {
		t.Fatal(err)
	}
	got, err := b.Host().Peerstore().Get(a.ID(), "AgentVersion")
	if err != nil || !strings.Contains(got.(string), "gardener") {
		t.Errorf("agent = %v, %v, want gardener", got, err)
	}
}
