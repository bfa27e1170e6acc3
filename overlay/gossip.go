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
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string {
			sum := sha256.Sum256(m.GetData())
			return string(sum[:])
		}),
		pubsub.WithMaxMessageSize(maxPresence+1024), // and what GossipSub puts around it
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
