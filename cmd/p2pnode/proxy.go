package main

import (
	"cmp"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// proxyVariables name a proxy, for most programs.
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"}

// proxySetting returns the first of them that is set. The URL is nil if that is none.
func (e *env) proxySetting() (name string, at *url.URL) {
	for _, name := range proxyVariables {
		if value := e.getenv(name); value != "" {
			return name, proxyURL(value)
		}
	}
	return "", nil
}

// proxyURL returns nil for what is no URL. A host and a port are enough, as for
// other programs.
func proxyURL(value string) *url.URL {
	bare := !strings.Contains(value, "://")
	if bare {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || bare && u.User != nil {
		return nil
	}
	return u
}

// proxy tells of the proxy, as VARIABLE=URL without a password.
func (e *env) proxy() string {
	switch name, at := e.proxySetting(); {
	case name == "":
		return ""
	case at == nil:
		return name + ", which is not a URL"
	default:
		return name + "=" + at.Redacted()
	}
}

// proxyFor returns what names the proxy for a URL: the one of the environment,
// unless NO_PROXY has the URL's host. It returns nil if there is no proxy.
func (e *env) proxyFor() func(*url.URL) (*url.URL, error) {
	_, at := e.proxySetting()
	if at == nil {
		return nil
	}
	c := httpproxy.Config{HTTPSProxy: at.String(), NoProxy: cmp.Or(e.getenv("NO_PROXY"), e.getenv("no_proxy"))}
	return c.ProxyFunc()
}
