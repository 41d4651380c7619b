package redisstore

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
)

//go:embed pour.lua
var pourLua string

var pour = newScript(pourLua)

// A script is kept in the form of arguments, so that none is made for each call.
type script struct{ source, sha any }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

const firstKey = 3 // position among the arguments

// args are those of EVALSHA. Nothing in them refers to the keys of the caller.
func (s *Store) args(buckets []core.Bucket) []any {
	args := make([]any, 0, firstKey+5*len(buckets))
	args = append(args, "evalsha", s.script.sha, len(buckets))
	var hash string
	for i := range buckets {
		if i == 0 || buckets[i].Key != buckets[i-1].Key {
			hash = s.hash(buckets[i].Key)
		}
		args = append(args, s.prefix+":"+buckets[i].Scope+":{"+hash+"}")
	}
	for i := range buckets {
		us, ns := split(buckets[i].Amount)
		args = append(args, us, ns)
		us, ns = split(buckets[i].Capacity)
		args = append(args, us, ns)
	}
	return args
}

// run calls the script, with its text if the server does not know it.
func (s *Store) run(ctx context.Context, args []any) (any, error) {
	reply, err := s.process(ctx, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		args[0], args[1] = "eval", s.script.source
		reply, err = s.process(ctx, args)
	}
	return reply, err
}

func (s *Store) process(ctx context.Context, args []any) (any, error) {
	cmd := once{redis.NewCmd(ctx, args...)}
	cmd.SetFirstKeyPos(firstKey)
	if err := s.client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

// once is a command that a client never repeats by itself. When an answer is
// lost the script may have run, and would charge for one request again. An
// answer that sends a client to another node of a cluster is followed all the
// same: nothing ran then.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// readReply checks a reply to the last digit before it believes it, and sets the
// levels. What answers might not be Redis, or not this script.
func readReply(reply any, buckets []core.Bucket) (poured bool, err error) {
	values, ok := reply.([]any)
	if !ok {
		return false, fmt.Errorf("%T, want an array", reply)
	}
	if want := 1 + 2*len(buckets); len(values) != want {
		return false, fmt.Errorf("an array of %d, want %d", len(values), want)
	}
	number := func(i int, most int64) int64 {
		n, ok := values[i].(int64)
		if !ok {
			err = errors.Join(err, fmt.Errorf("element %d is a %T, want an integer", i, values[i]))
		} else if n < 0 || n > most {
			err = errors.Join(err, fmt.Errorf("element %d is %d, want 0 to %d", i, n, most))
		}
		return n
	}
	first := number(0, 1)
	for i := range buckets {
		us, ns := number(1+2*i, math.MaxInt64/1000-1), number(2+2*i, 999)
		level := time.Duration(us*1000 + ns)
		if level > buckets[i].Capacity {
			err = errors.Join(err, fmt.Errorf("a level of %v, want at most %v", level, buckets[i].Capacity))
		}
		buckets[i].Level = level
	}
	return first == 1, err
}

// split turns a duration into whole microseconds, rounded down, and the
// nanoseconds that remain, 0 to 999.
func split(d time.Duration) (us, ns int64) {
	us, ns = int64(d)/1000, int64(d)%1000
	if ns < 0 {
		us, ns = us-1, ns+1000
	}
	return us, ns
}
