package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Open returns a Store with a client of its own, set up for a rate limiter,
// which must rather give up than be slow:
//
//	redis://user:password@localhost:6379/0
//	rediss://cache.example.com:6380             with TLS
//	unix:///run/redis.sock?db=1
//	redis://10.0.0.1:6379?addr=10.0.0.2:6379    a cluster, by any of its nodes
//
// It takes the parameters of [redis.ParseURL] and, where there is an addr, those
// of [redis.ParseClusterURL]: for one, ?pool_size=50&dial_timeout=2s. For
// Sentinel make a client with [redis.NewFailoverClient], and pass it to [New].
//
// It does not wait for the network, and works while Redis is down: connections
// are made in the background and when they are needed. Call [Store.Close] at the
// end.
//
// The error is about the URL or an option. It does not show the password.
func Open(url string, options ...Option) (*Store, error) {
	s, err := newStore(options)
	if err != nil {
		return nil, fmt.Errorf("redisstore: Open: %w", err)
	}
	if s.client, err = newClient(url); err != nil {
		return nil, fmt.Errorf("redisstore: Open: %w", err)
	}
	s.close = sync.OnceValue(s.client.Close)
	return s, nil
}

func newClient(rawURL string) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil || hasStrayAt(rawURL, u) {
		// The error may quote a part of the password.
		return nil, errors.New("the URL cannot be read; want one like \"redis://user:password@localhost:6379/0\", " +
			"with / ? # @ % in the password written as %2F %3F %23 %40 %25")
	}
	if u.Query().Has("addr") {
		options, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, err
		}
		setClusterDefaults(options)
		return redis.NewClusterClient(options), nil
	}
	options, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	setDefaults(options)
	return redis.NewClient(options), nil
}

// hasStrayAt reports whether there is an @ apart from the one before the host:
// then a part of the password may have been taken for the host, the path or a
// parameter.
func hasStrayAt(rawURL string, u *url.URL) bool {
	ats := strings.Count(rawURL, "@")
	if u.User != nil {
		ats--
	}
	return ats != 0
}

const (
	// A connection that is not there by then is not worth the wait.
	dialTimeout = 500 * time.Millisecond

	// Longer than any Pour waits, so that its own deadline comes first. The rest is
	// for the handshake of a new connection.
	ioTimeout = time.Second

	// A request that finds all connections busy is better off with an error.
	poolTimeout = 100 * time.Millisecond

	// Two are kept open, so that a pause does not end with a slow request.
	minIdleConns = 2

	// Below the time after which firewalls and load balancers forget a connection.
	connMaxIdleTime = 5 * time.Minute

	// After a failover a cluster client asks the dead master until it reloads the
	// map of the slots. The default is a minute.
	clusterStateReloadInterval = 3 * time.Second
)

// setDefaults sets what the URL left open to what suits a rate limiter.
func setDefaults(o *redis.Options) {
	// Without it a deadline is not seen while waiting for an answer.
	o.ContextTimeoutEnabled = true
	// Pour is never repeated, and a handshake need not be: the next request does.
	o.MaxRetries = cmp.Or(o.MaxRetries, -1)
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
	// Attempts to connect go on behind the caller's back and take up the pool.
	o.DialerRetries = cmp.Or(o.DialerRetries, 1)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.PoolTimeout = cmp.Or(o.PoolTimeout, poolTimeout)
	o.MinIdleConns = cmp.Or(o.MinIdleConns, minIdleConns)
	o.ConnMaxIdleTime = cmp.Or(o.ConnMaxIdleTime, connMaxIdleTime)
	// Each of the two saves a round trip when connecting.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// setClusterDefaults is setDefaults for a cluster.
func setClusterDefaults(o *redis.ClusterOptions) {
	o.ContextTimeoutEnabled = true
	o.MaxRetries = cmp.Or(o.MaxRetries, -1)
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
	o.DialerRetries = cmp.Or(o.DialerRetries, 1)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.PoolTimeout = cmp.Or(o.PoolTimeout, poolTimeout)
	o.MinIdleConns = cmp.Or(o.MinIdleConns, minIdleConns)
	o.ConnMaxIdleTime = cmp.Or(o.ConnMaxIdleTime, connMaxIdleTime)
	o.ClusterStateReloadInterval = clusterStateReloadInterval
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
