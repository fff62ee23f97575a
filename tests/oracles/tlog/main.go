// Command tlog-oracle reads a log with a client that is not ours: the Go implementation of C2SP tlog-tiles by the makers
// of Certificate Transparency. It rebuilds the whole tree from the entries, compares every tile, verifies the log's
// signature and each witness's cosignature, and makes and verifies proofs from the tiles.
//
//	tlog-oracle FOLDER LOG-KEY [WITNESS-KEY...]
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

// The checker may wait for ever for a worker that has found a fault.
const patience = 20 * time.Second

func main() {
	time.AfterFunc(patience, func() {
		fmt.Fprintln(os.Stderr, "the log could not be read through")
		os.Exit(1)
	})
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(ctx context.Context, folder, logKey string, witnessKeys []string) error {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return fmt.Errorf("log key: %w", err)
	}
	files := client.FileFetcher{Root: folder}
	raw, err := files.ReadCheckpoint(ctx)
	if err != nil {
		return err
	}
	var witnesses []note.Verifier
	for _, key := range witnessKeys {
		witness, err := fnote.NewVerifierForCosignatureV1(key)
		if err != nil {
			return fmt.Errorf("witness key: %w", err)
		}
		witnesses = append(witnesses, witness)
	}
	checkpoint, _, signed, err := log.ParseCheckpoint(raw, verifier.Name(), verifier, witnesses...)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if len(signed.Sigs) != 1+len(witnesses) {
		return fmt.Errorf("%d signatures verify, not %d", len(signed.Sigs), 1+len(witnesses))
	}
	if err := fsck.New(verifier.Name(), verifier, files, leafHashes, fsck.Opts{N: 8}).Check(ctx); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return proofs(ctx, files, checkpoint)
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

func proofs(ctx context.Context, files client.FileFetcher, checkpoint *log.Checkpoint) error {
	builder, err := client.NewProofBuilder(ctx, checkpoint.Size, files.ReadTile)
	if err != nil {
		return err
	}
	leaves, err := client.FetchLeafHashes(ctx, files.ReadTile, 0, checkpoint.Size, checkpoint.Size)
	if err != nil {
		return err
	}
	for index := uint64(0); index < checkpoint.Size; index += 37 {
		path, err := builder.InclusionProof(ctx, index)
		if err != nil {
			return err
		}
		err = proof.VerifyInclusion(rfc6962.DefaultHasher, index, checkpoint.Size, leaves[index], path, checkpoint.Hash)
		if err != nil {
			return fmt.Errorf("inclusion of %d: %w", index, err)
		}
	}
	return nil
}
