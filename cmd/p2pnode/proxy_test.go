package main

import (
	"net/url"
	"testing"
)

// The environment names a proxy, and hosts for which there is none.
func TestProxyFor(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   map[string]string
		asked string
		want  string // empty if there is none
	}{
		{"nothing", nil, "https://5.0.0.1:443", ""},
		{"a proxy", map[string]string{"HTTPS_PROXY": "http://me:word@192.0.2.1:3128"}, "https://5.0.0.1:443", "http://me:word@192.0.2.1:3128"},
		{"a proxy with no scheme", map[string]string{"https_proxy": "192.0.2.1:3128"}, "https://5.0.0.1:443", "http://192.0.2.1:3128"},
		{"a proxy for all", map[string]string{"ALL_PROXY": "socks5://192.0.2.1:1080"}, "https://5.0.0.1:443", "socks5://192.0.2.1:1080"},
		{"two", map[string]string{"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "http://b:1", "HTTP_PROXY": "http://c:1"}, "https://5.0.0.1:443", "http://a:1"},
		{"no URL", map[string]string{"HTTPS_PROXY": "me@nowhere"}, "https://5.0.0.1:443", ""},
		{"a network without", map[string]string{"HTTPS_PROXY": "http://a:1", "NO_PROXY": "5.0.0.0/8"}, "https://5.0.0.1:443", ""},
		{"another network without", map[string]string{"HTTPS_PROXY": "http://a:1", "no_proxy": "10.0.0.0/8"}, "https://5.0.0.1:443", "http://a:1"},
		{"this machine", map[string]string{"HTTPS_PROXY": "http://a:1"}, "https://127.0.0.1:4001", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &env{getenv: func(name string) string { return tt.env[name] }}
			asked, err := url.Parse(tt.asked)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if proxy := e.proxyFor(); proxy != nil {
				u, err := proxy(asked)
				if err != nil {
					t.Fatal(err)
				}
				if u != nil {
					got = u.String()
				}
			}
			if got != tt.want {
				t.Errorf("proxyFor(%s) = %q, want %q", tt.asked, got, tt.want)
			}
		})
	}
}
