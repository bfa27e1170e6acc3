package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// A gossip spreads presence statements to all members, by GossipSub
// (https://github.com/libp2p/specs/tree/master/pubsub/gossipsub). Statements
// carry their own signature, so the messages have none.
type gossip struct {
	topic  *pubsub.Topic
	events *pubsub.TopicEventHandler
	writes writeWatch
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newGossip joins the mesh's topic. Each statement received is given to
// receive once, which tells whether it is to be passed on.
func newGossip(ctx context.Context, node *p2p.Node, mesh credential.MeshID, receive func(data []byte) pubsub.ValidationResult) (_ *gossip, err error) {
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
		pubsub.WithMaxMessageSize(maxPresence+1024), // and what GossipSub puts around it
		pubsub.WithFloodPublish(true),               // to all at once, not first to whom a heartbeat picks
		pubsub.WithPeerExchange(false),              // whom to connect to is the DHT's business
	)
	if err != nil {
		return nil, err
	}
	topic := mesh.String() + "/presence"
	err = ps.RegisterTopicValidator(topic, func(_ context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		return receive(msg.GetData())
	})
	if err != nil {
		return nil, err
	}
	if g.topic, err = ps.Join(topic); err != nil {
		return nil, err
	}
	if g.events, err = g.topic.EventHandler(); err != nil {
		return nil, err
	}
	sub, err := g.topic.Subscribe()
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
	return g, nil
}

// publish sends a statement to all members that can be reached now.
func (g *gossip) publish(ctx context.Context, data []byte) error {
	return g.topic.Publish(ctx, data)
}

// publishLast sends the last statement, and waits until it is on its way to all
// members that it goes to directly. What is still to be written when the gossip
// is closed is lost.
func (g *gossip) publishLast(ctx context.Context, data []byte) error {
	peers := len(g.topic.ListPeers())
	if peers == 0 {
		return nil
	}
	written := g.writes.await(messageID(data), peers)
	if err := g.publish(ctx, data); err != nil {
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

// A writeWatch waits for one message to be written to a number of members. It
// is a [pubsub.EventTracer].
type writeWatch struct {
	mu      sync.Mutex
	id      string // of the message
	missing int
	written chan struct{} // closed when nothing is missing any more
}

func (w *writeWatch) await(id string, members int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id, w.missing, w.written = id, members, make(chan struct{})
	return w.written
}

// Trace is told of all that GossipSub does.
func (w *writeWatch) Trace(e *pubsubpb.TraceEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range e.GetSendRPCCompleted().GetMeta().GetMessages() {
		if w.missing == 0 || string(m.GetMessageID()) != w.id {
			continue
		}
		if w.missing--; w.missing == 0 {
			close(w.written)
		}
	}
}

// nextPeer waits for a member to be there to whom statements go directly.
func (g *gossip) nextPeer(ctx context.Context) error {
	for {
		e, err := g.events.NextPeerEvent(ctx)
		if err != nil || e.Type == pubsub.PeerJoin {
			return err
		}
	}
}

func (g *gossip) Close() error {
	var err error
	if g.events != nil {
		g.events.Cancel()
	}
	g.cancel()
	g.wg.Wait()
	if g.topic != nil {
		err = g.topic.Close()
	}
	if errors.Is(err, context.Canceled) { // it went with the rest
		return nil
	}
	return err
}
