package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// A gossip spreads statements to all members, by GossipSub
// (https://github.com/libp2p/specs/tree/master/pubsub/gossipsub). Statements
// carry their own signature, so the messages have none.
type gossip struct {
	presence    *topic
	revocations *topic
	writes      writeWatch
	cancel      context.CancelFunc
	wg          sync.WaitGroup
}

// A receiver takes in a statement that came by gossip, and tells whether it is to
// be passed on. It is called once for each.
type receiver func(data []byte) pubsub.ValidationResult

// newGossip joins the mesh's topics.
func newGossip(ctx context.Context, node *p2p.Node, mesh credential.MeshID, presence, revocation receiver) (_ *gossip, err error) {
	ctx, cancel := context.WithCancel(ctx)
	g := &gossip{cancel: cancel}
	defer func() {
		if err != nil {
			g.Close()
			err = fmt.Errorf("gossip: %w", err)
		}
	}()
	ps, err := pubsub.NewGossipSub(ctx, node.Host(),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string { return messageID(m.GetData()) }),
		pubsub.WithEventTracer(&g.writes),
		pubsub.WithMaxMessageSize(max(maxPresence, credential.MaxRevocation)+1024), // and what GossipSub puts around it
		pubsub.WithGossipSubParams(gossipParams()),
		pubsub.WithValidateQueueSize(gossipQueue),
		pubsub.WithPeerOutboundQueueSize(gossipQueue),
		pubsub.WithFloodPublish(true),  // to all at once, not first to whom a heartbeat picks
		pubsub.WithPeerExchange(false), // whom to connect to is the DHT's business
	)
	if err != nil {
		return nil, err
	}
	if g.presence, err = g.join(ctx, ps, node.ID(), mesh.String()+"/presence", presence); err != nil {
		return nil, err
	}
	g.revocations, err = g.join(ctx, ps, node.ID(), mesh.String()+"/revocations", revocation)
	return g, err
}

// gossipQueue is how many statements may wait to be verified, and to be sent to one
// member. What comes beyond is lost: when hundreds start at once each says that it is
// up. A place costs a few bytes.
const gossipQueue = 512

// gossipParams are GossipSub's own but for what an idle mesh of many costs. A
// statement goes at once to all who are connected to its maker, and on to those
// with whom links are made, four each; the heartbeat makes the links, and tells some others of
// was said lately in case they missed it: three at a time, at two heartbeats. In an
// idle mesh of hundreds that is most of what gossip costs, and runRefresh mends the
// rest.
func gossipParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.HeartbeatInterval = 3 * time.Second
	p.GossipFactor = 0
	p.D, p.Dlo, p.Dhi, p.Dscore, p.Dout = 4, 3, 6, 3, 1
	p.Dlazy = 3
	p.HistoryGossip = 2
	return p
}

// A topic is one kind of statement.
type topic struct {
	*pubsub.Topic
	events *pubsub.TopicEventHandler
	writes *writeWatch
}

func (g *gossip) join(ctx context.Context, ps *pubsub.PubSub, self peer.ID, name string, receive receiver) (_ *topic, err error) {
	err = ps.RegisterTopicValidator(name, func(_ context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		if from == self { // which knows it
			return pubsub.ValidationAccept
		}
		return receive(msg.GetData())
	})
	if err != nil {
		return nil, err
	}
	t := &topic{writes: &g.writes}
	if t.Topic, err = ps.Join(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.events, err = t.EventHandler(); err != nil {
		return nil, err
	}
	sub, err := t.Subscribe()
	if err != nil {
		return nil, err
	}
	g.wg.Go(func() {
		defer sub.Cancel()
		for { // the validator has taken in what there was
			if _, err := sub.Next(ctx); err != nil {
				return
			}
		}
	})
	return t, nil
}

// publish sends a statement to all members that can be reached now.
func (t *topic) publish(ctx context.Context, data []byte) error {
	return t.Publish(ctx, data)
}

// publishLast sends a statement that nobody may be there to send again, and waits
// until it is on its way to all members that it goes to directly. What is still
// to be written when the gossip is closed is lost.
func (t *topic) publishLast(ctx context.Context, data []byte) error {
	peers := len(t.ListPeers())
	if peers == 0 {
		return nil
	}
	id := messageID(data)
	written := t.writes.await(id, peers)
	defer t.writes.forget(id)
	if err := t.publish(ctx, data); err != nil {
		return err
	}
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func messageID(data []byte) string {
	sum := sha256.Sum256(data)
	return string(sum[:])
}

// A writeWatch waits for messages to be written to a number of members. It is a
// [pubsub.EventTracer].
type writeWatch struct {
	mu      sync.Mutex
	awaited map[string]*pendingWrite // by message ID
}

type pendingWrite struct {
	missing int
	done    chan struct{} // closed when nothing is missing any more
}

func (w *writeWatch) await(id string, members int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.awaited == nil {
		w.awaited = map[string]*pendingWrite{}
	}
	out := &pendingWrite{members, make(chan struct{})}
	w.awaited[id] = out
	return out.done
}

func (w *writeWatch) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.awaited, id)
}

// Trace is told of all that GossipSub does.
func (w *writeWatch) Trace(e *pubsubpb.TraceEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.awaited) == 0 {
		return
	}
	for _, m := range e.GetSendRPCCompleted().GetMeta().GetMessages() {
		out := w.awaited[string(m.GetMessageID())]
		if out == nil || out.missing == 0 {
			continue
		}
		if out.missing--; out.missing == 0 {
			close(out.done)
		}
	}
}

// nextPeer waits for a member to be there to whom statements go directly.
func (t *topic) nextPeer(ctx context.Context) error {
	for {
		e, err := t.events.NextPeerEvent(ctx)
		if err != nil || e.Type == pubsub.PeerJoin {
			return err
		}
	}
}

func (t *topic) close() error {
	if t == nil {
		return nil
	}
	if t.events != nil {
		t.events.Cancel()
	}
	err := t.Close()
	if errors.Is(err, context.Canceled) { // it went with the rest
		return nil
	}
	return err
}

func (g *gossip) Close() error {
	g.cancel()
	g.wg.Wait()
	return errors.Join(g.presence.close(), g.revocations.close())
}
