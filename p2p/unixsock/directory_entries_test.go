package unixsock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestEntriesAreKeptNewestFirst(t *testing.T) {
	at := func(name string, sec int64) entry { return entry{name, time.Unix(sec, 0)} }
	for _, tt := range []struct {
		name string
		puts []entry
		drop []string
		want []string
	}{
		{"none", nil, nil, nil},
		{"by age", []entry{at("b", 2), at("c", 3), at("a", 1)}, nil, []string{"c", "b", "a"}},
		{"of one time the later", []entry{at("a", 1), at("b", 1)}, nil, []string{"b", "a"}},
		{"one name once", []entry{at("a", 1), at("a", 2)}, nil, []string{"a"}},
		{"the oldest goes", []entry{at("1", 1), at("2", 2), at("3", 3), at("4", 4), at("5", 5), at("6", 6), at("7", 7), at("8", 8), at("9", 9)}, nil,
			[]string{"9", "8", "7", "6", "5", "4", "3", "2"}},
		{"one that is older than eight does not come", []entry{at("2", 2), at("3", 3), at("4", 4), at("5", 5), at("6", 6), at("7", 7), at("8", 8), at("9", 9), at("1", 1)}, nil,
			[]string{"9", "8", "7", "6", "5", "4", "3", "2"}},
		{"dropped", []entry{at("a", 1), at("b", 2), at("c", 3)}, []string{"b", "x"}, []string{"c", "a"}},
		{"all dropped", []entry{at("a", 1)}, []string{"a"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEntries()
			for _, p := range tt.puts {
				e.put("p", p)
			}
			for _, name := range tt.drop {
				e.drop(name)
			}
			var got []string
			for _, n := range e.peers["p"] {
				got = append(got, n.name)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("entries = %q, want %q", got, tt.want)
			}
			if len(e.owner) != len(tt.want) || len(tt.want) == 0 && len(e.peers) != 0 {
				t.Errorf("entries hold %d names of %d peers, want %d names", len(e.owner), len(e.peers), len(tt.want))
			}
		})
	}
}

func TestEntriesAreBounded(t *testing.T) {
	e := newEntries()
	for i := range maxNames + 10 {
		news := e.put(peer.ID(fmt.Sprint(i)), entry{name: fmt.Sprint(i)})
		if want := i < maxNames; news != want {
			t.Fatalf("put of the %d. name = %v, want %v", i+1, news, want)
		}
	}
}

func TestEntriesInUseDoNotChange(t *testing.T) {
	e := newEntries()
	e.put("p", entry{"a", time.Unix(1, 0)})
	e.put("p", entry{"b", time.Unix(2, 0)})
	list := e.peers["p"]
	e.drop("b")
	e.put("p", entry{"c", time.Unix(3, 0)})
	if list[0].name != "b" || list[1].name != "a" {
		t.Errorf("a list that was read became %v", list)
	}
}
