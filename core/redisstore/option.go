package redisstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const prefixCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"

// An Option changes a default of [New] or [Open]. New panics if its value is
// invalid; Open returns an error.
type Option func(*Store) error

// WithPrefix sets what the name of every key in Redis starts with, before a
// colon. The default is "spillway". Stores with different prefixes share no
// bucket, unless one prefix is the other with ":" and more behind it.
//
// It is made of letters, digits and -._: and must not be empty. Braces are left
// out because a cluster looks for the slot between them.
func WithPrefix(prefix string) Option {
	return func(s *Store) error {
		if strings.Trim(prefix, prefixCharacters) != "" || prefix == "" {
			return fmt.Errorf("WithPrefix(%q): want letters, digits and -._: , at least one, like %q", prefix, "myapp:limits")
		}
		s.prefix = prefix
		return nil
	}
}

// WithSecret makes the hash of a key an HMAC. Without it, who can read the
// Redis can find out by trial whose a bucket is if the keys are easy to guess, as
// IP addresses and user numbers are.
//
// All processes that share the buckets need the same secret, and a new one starts
// with empty buckets. It should be random and at least 16 bytes long; it must not
// be empty. It is copied.
func WithSecret(secret []byte) Option {
	secret = slices.Clone(secret)
	return func(s *Store) error {
		if len(secret) == 0 {
			return errors.New("WithSecret: the secret is empty, want random bytes; to hash without one leave the option out")
		}
		s.secret = secret
		return nil
	}
}

// WithTimeout sets how long one [Store.Pour] may take. The default is 100 ms. It
// must be positive.
//
// It includes connecting, which takes about four round trips with TLS: over a
// slow link a timeout must leave room for that, or no connection ever gets
// ready. And it ends the wait for an answer only if the client has
// ContextTimeoutEnabled, as those of [Open] do; others wait for their
// ReadTimeout.
func WithTimeout(timeout time.Duration) Option {
	return func(s *Store) error {
		if timeout <= 0 {
			return fmt.Errorf("WithTimeout(%v): want a positive duration, like 100*time.Millisecond", timeout)
		}
		s.timeout = timeout
		return nil
	}
}
