package redisstore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
)

// hash is what stands for a key in Redis: 22 characters for 128 bits. Two keys
// share one by accident with a chance of one in 2^128, and by intent only with
// some 2^64 attempts at finding two keys of one's own.
func (s *Store) hash(key string) string {
	var sum [sha256.Size]byte
	if s.secret == nil {
		sum = sha256.Sum256([]byte(key))
	} else {
		mac := hmac.New(sha256.New, s.secret)
		io.WriteString(mac, key)
		mac.Sum(sum[:0])
	}
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
