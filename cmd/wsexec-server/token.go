package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"wsexec/internal/access"
	"wsexec/internal/trust"
)

// minToken is the least length of a token in characters: 128 bits in base64.
const minToken = 22

// loadToken reads the token, or makes it.
func loadToken(path string) (string, error) {
	f, err := trust.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", fmt.Errorf("token file %s is a symbolic link to nothing; remove it, or make what it points to", path)
		}
		return makeToken(path)
	}
	irregular := fmt.Errorf("token file %s is not a regular file; name one, or one that is not there to have it made", path)
	if errors.Is(err, syscall.ENXIO) {
		return "", irregular // a socket
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", remedy(err, "name another with --token-file"))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", irregular
	}
	if p := st.Mode().Perm(); p&0o077 != 0 && privateModes {
		return "", fmt.Errorf("token file %s can be read by others (mode %04o); say: chmod 600 %s", path, p, path)
	}
	token, err := trust.ReadToken(f)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", path, err)
	}
	if len(token) < minToken {
		return "", fmt.Errorf("the token in %s is too short to be safe (at least %d characters; remove the file to have one made)", path, minToken)
	}
	return token, nil
}

// reloadToken reads the token file again, or makes it again. What it returns makes that
// the owner's token. If the file is broken the token stays.
func (ls *listeners) reloadToken(authenticator *access.Authenticator, log *serverLog) (use func()) {
	if ls.tokenFile == "" {
		return func() {}
	}
	token, err := loadToken(ls.tokenFile)
	if err != nil {
		log.notReloaded(err, "the token stays what it was")
		return func() {}
	}
	return func() {
		detail := "the token in " + ls.tokenFile
		if token != ls.token {
			ls.token = token
			authenticator.SetOwnerToken(token)
			detail += ", which is another one"
		}
		log.every.Info("reloaded", "detail", detail)
	}
}

// makeToken writes 256 random bits to a new file that this user alone can read.
func makeToken(path string) (string, error) {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand
	token := base64.RawURLEncoding.EncodeToString(b[:])
	err := makeFile(path, []byte(token+"\n"))
	if errors.Is(err, fs.ErrExist) {
		return loadToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("token file %s cannot be made: %w", path, err)
	}
	return token, nil
}

// makeFile makes a file that this user alone can read, unless it is there already:
// then the error is [fs.ErrExist]. It is linked into place when it is whole, so that
// no reader gets half of it, and of two that make it at once one wins.
func makeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return trust.Reason(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp.Name(), path)
	}
	return trust.Reason(err)
}
