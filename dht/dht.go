package dht

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	kbucket "github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
	"github.com/p2pnode/p2pnode/p2p"
)

var (
	// ErrNotFound says that nobody who was asked knows the peer or the record.
	ErrNotFound = errors.New("not found in the DHT")

	// ErrNoPeers says that there is nobody to ask.
	ErrNoPeers = errors.New("the DHT has no peers")

	// ErrClosed is what methods return after Close.
	ErrClosed = errors.New("the DHT is closed")
)

// DefaultRepublish is how often an owner publishes again what it provides and
// publishes. It bounds how long a key may be unfindable after the peers that
// kept it left.
const DefaultRepublish = 10 * time.Minute

// DefaultPrefix begins the name of the DHT's protocol.
const DefaultPrefix = "/p2pnode"

// A Validator judges the records of one namespace, whoever sent them.
type Validator interface {
	// Validate returns why a record is not to be kept or believed, or nil.
	Validate(key string, value []byte) error

	// Select returns the index of the best of several valid records of a key.
	Select(key string, values [][]byte) (int, error)
}

// Config describes a DHT. The zero Config keeps no records, only peers and
// providers.
type Config struct {
	// Prefix keeps DHTs apart that have nothing to do with each other. If
	// empty, DefaultPrefix.
	Prefix string

	// Records names the namespaces whose records are kept: the key "/a/b" is
	// for the Validator "a".
	Records map[string]Validator

	// Known returns peers to turn to when nobody is left to ask. It may be nil.
	Known func() []peer.AddrInfo

	// Republish is how often what this node provides is published again. Zero
	// means DefaultRepublish.
	Republish time.Duration

	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Republish == 0 {
		c.Republish = DefaultRepublish
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Republish < 0 {
		return c, fmt.Errorf("Config.Republish is negative: %v", c.Republish)
	}
	if c.Prefix[0] != '/' {
		return c, fmt.Errorf("Config.Prefix %q does not begin with a slash", c.Prefix)
	}
	return c, nil
}

// A DHT is this node's part of the table, and its way to ask the others. Its
// methods may be called from several goroutines at once.
type DHT struct {
	node *p2p.Node
	cfg  Config
	host *kadHost
	kad  *kad.IpfsDHT

	ctx       context.Context // the DHT's lifetime
	stop      context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the table changes
}

// New starts to take part in the DHT. Close it before the node.
func New(node *p2p.Node, c Config) (*DHT, error) {
	return newDHT(node, newKadHost(node), c)
}

func newDHT(node *p2p.Node, h *kadHost, c Config) (*DHT, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	validators := record.NamespacedValidator{}
	for ns, v := range c.Records {
		validators[ns] = v
	}
	options := []kad.Option{
		kad.ProtocolPrefix(protocol.ID(c.Prefix)),
		kad.Mode(kad.ModeServer), // automatic mode waits for a public address
		kad.Validator(validators),
	}
	if c.Known != nil {
		options = append(options, kad.BootstrapPeersFunc(c.Known))
	}
	d := &DHT{node: node, cfg: c, host: h, changed: make(chan struct{})}
	if d.kad, err = kad.New(h, options...); err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	inTable := func(id peer.ID) bool { return d.kad.RoutingTable().Find(id) != "" }
	h.peers.inTable.Store(&inTable)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.watchTable()
	return d, nil
}

// watchTable adds to the callbacks of the routing table, which has no other
// way to tell of a change.
func (d *DHT) watchTable() {
	table := d.kad.RoutingTable()
	added, removed := table.PeerAdded, table.PeerRemoved
	table.PeerAdded = func(id peer.ID) { added(id); d.change() }
	table.PeerRemoved = func(id peer.ID) { removed(id); d.change() }
	table.Size() // takes the lock under which the callbacks are called, so they are seen
}

func (d *DHT) change() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Peers returns the peers in the table.
func (d *DHT) Peers() []peer.ID { return d.kad.RoutingTable().ListPeers() }

// Ready waits until there is somebody to ask.
func (d *DHT) Ready(ctx context.Context) error {
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if d.kad.RoutingTable().Size() > 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the DHT: %w", context.Cause(ctx))
		case <-d.ctx.Done():
			return ErrClosed
		}
	}
}

// FindPeer returns addresses of a peer. It may connect to the peer on the way,
// and what it finds is known to the node's Dial afterwards. For a peer that has no
// address it returns none once it has connected to it, which it can on the same
// machine.
func (d *DHT) FindPeer(ctx context.Context, id peer.ID) ([]multiaddr.Multiaddr, error) {
	info, err := d.kad.FindPeer(ctx, id)
	if err != nil {
		return nil, d.fault(fmt.Sprintf("find peer %v", id), err)
	}
	if addrs := d.host.portable(info.Addrs); len(addrs) > 0 || d.node.PathTo(id) == p2p.PathUnknown {
		return addrs, nil
	}
	// It has connected to this node, maybe a moment ago.
	if err := d.node.Identified(ctx, id); err != nil {
		return nil, err
	}
	return d.host.portable(d.node.KnownAddrs(id)), nil
}

// A Publication is something that this node keeps in the DHT.
type Publication struct {
	done chan struct{} // closed when it is there for the first time
	stop context.CancelFunc
}

// Done is closed once others can find what is published.
func (p *Publication) Done() <-chan struct{} { return p.done }

// Stop ends the publication. The DHT forgets it within two days, as it is not
// published again.
func (p *Publication) Stop() { p.stop() }

// Provide makes others find this node under a key: now or once there is
// somebody to tell, and again as [Config.Republish] says.
func (d *DHT) Provide(key string) *Publication {
	return d.repeat(key, func(ctx context.Context) error {
		c, err := keyCID(key)
		if err != nil {
			return err
		}
		return d.kad.Provide(ctx, c, true)
	})
}

// Publish keeps a record in the DHT: now or once there is somebody to keep it,
// and again as [Config.Republish] says. Each time value is asked for the record
// as it is by then.
func (d *DHT) Publish(key string, value func() ([]byte, error)) *Publication {
	return d.repeat(key, func(ctx context.Context) error {
		v, err := value()
		if err != nil {
			return err
		}
		return d.kad.PutValue(ctx, key, v)
	})
}

const (
	retryPublish   = 5 * time.Second
	publishTimeout = time.Minute // a lookup over the Internet with dead peers in the table
)

// repeat does what puts a key into the DHT, and does it again in time.
func (d *DHT) repeat(key string, publish func(context.Context) error) *Publication {
	ctx, stop := context.WithCancel(d.ctx)
	p := &Publication{done: make(chan struct{}), stop: stop}
	published := sync.OnceFunc(func() { close(p.done) })
	d.wg.Go(func() {
		for ctx.Err() == nil && d.Ready(ctx) == nil {
			wait := jitter(d.cfg.Republish)
			once, done := context.WithTimeout(ctx, publishTimeout)
			err := publish(once)
			done()
			switch {
			case err == nil:
				published()
			case ctx.Err() == nil:
				d.cfg.Logger.Debug("publish in the DHT", "key", key, "err", err)
				wait = jitter(min(retryPublish, d.cfg.Republish))
			}
			d.sleep(ctx, wait)
		}
	})
	return p
}

// sleep waits for a time, or until the table has twice the peers that it has
// now: what was published among the first few would go with them.
func (d *DHT) sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	size := d.kad.RoutingTable().Size()
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if d.kad.RoutingTable().Size() >= 2*max(size, 1) {
			return
		}
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// jitter spreads what many nodes that started together do regularly.
func jitter(t time.Duration) time.Duration {
	return t*3/4 + rand.N(t/2+1)
}

// Providers yields the peers that provide a key as they are found, each once,
// with what addresses are known, until all who may know have been asked, ctx
// ends or the loop is left. This node is among them if it provides the key.
func (d *DHT) Providers(ctx context.Context, key string) iter.Seq[peer.AddrInfo] {
	return func(yield func(peer.AddrInfo) bool) {
		c, err := keyCID(key)
		if err != nil || d.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for info := range d.kad.FindProvidersAsync(ctx, c, 0) {
			info.Addrs = d.host.portable(info.Addrs)
			if !yield(info) {
				return
			}
		}
	}
}

// Put keeps a record at the peers nearest to its key, which has the form
// "/namespace/rest", for two days at most; see Publish for one that stays.
func (d *DHT) Put(ctx context.Context, key string, value []byte) error {
	if err := d.kad.PutValue(ctx, key, value); err != nil {
		return d.fault(fmt.Sprintf("put record %q", key), err)
	}
	return nil
}

// Get returns the best valid record of a key.
func (d *DHT) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := d.kad.GetValue(ctx, key)
	if err != nil {
		return nil, d.fault(fmt.Sprintf("get record %q", key), err)
	}
	return value, nil
}

// fault names what was tried and puts the library's errors into ours.
func (d *DHT) fault(tried string, err error) error {
	switch {
	case d.ctx.Err() != nil:
		err = ErrClosed
	case errors.Is(err, routing.ErrNotFound) && d.kad.RoutingTable().Size() == 0, isEmptyTable(err):
		err = ErrNoPeers
	case errors.Is(err, routing.ErrNotFound):
		err = ErrNotFound
	}
	return fmt.Errorf("%s: %w", tried, err)
}

// Close leaves the DHT and waits for its goroutines. The node stays. It may be
// called more than once.
func (d *DHT) Close() error {
	d.closeOnce.Do(func() {
		d.stop()
		d.wg.Wait()
		d.closeErr = d.kad.Close()
	})
	return d.closeErr
}

// keyCID makes of a key what kad-dht calls a content ID.
func keyCID(key string) (cid.Cid, error) {
	hash, err := multihash.Sum([]byte(key), multihash.SHA2_256, -1)
	if err != nil {
		return cid.Undef, err
	}
	return cid.NewCidV1(cid.Raw, hash), nil
}

func isEmptyTable(err error) bool {
	return errors.Is(err, kbucket.ErrLookupFailure)
}
