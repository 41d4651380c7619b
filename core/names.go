package core

import (
	"fmt"
	"slices"
	"sync"
)

// names are the policies on a Limiter. The zero value is ready for use.
type names struct {
	mu      sync.Mutex
	byScope map[string]*named
}

// A named is what goes by one name: how many guards, and what they agree on.
type named struct {
	guards  int
	limits  []string
	unnamed bool
}

// register enters a policy in place of another one, which may be nil, or says
// why its buckets would get mixed up with those of a third.
func (n *names) register(pl, replaced *plan) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	scope, others := pl.scope(""), 0
	this := named{limits: pl.limitTexts(), unnamed: pl.Policy.Name == ""}
	other := n.byScope[scope]
	if other != nil {
		others = other.guards
	}
	if replaced != nil && replaced.scope("") == scope {
		others--
	}
	switch {
	case others == 0:
	case this.unnamed || other.unnamed:
		return fmt.Errorf("another policy on this Limiter is also called %q, and they would share their buckets: give this one a Name of its own, like \"login\"", pl.name)
	case !slices.Equal(this.limits, other.limits):
		return fmt.Errorf("another policy on this Limiter is also named %q, and has other limits or another kind of key: give this one another Name, or let both use one Guard", pl.name)
	}
	if replaced != nil && replaced.scope("") != scope {
		n.release(replaced.scope(""))
	}
	if n.byScope == nil {
		n.byScope = make(map[string]*named)
	}
	this.guards = others + 1
	n.byScope[scope] = &this
	return nil
}

func (n *names) release(scope string) {
	if n.byScope[scope].guards--; n.byScope[scope].guards == 0 {
		delete(n.byScope, scope)
	}
}

// limitTexts lists the scopes and limits of a plan, and which of them are by IP:
// a key that a client makes up must not be an address in the same buckets.
func (pl *plan) limitTexts() []string {
	var limits []string
	for _, r := range append([]*rule{pl.rest}, pl.routes.rules...) {
		for i := range r.meters {
			limits = append(limits, fmt.Sprint(r.meters[i].scope, " ", r.meters[i].limit, " by IP: ", r.byIP))
		}
	}
	slices.Sort(limits)
	return limits
}
