// The official SDK against `devnet`: identical bytes and IDs.
//
// The SDK uses storage nodes and the chain, not aggregators and publishers.
// Therefore its encoder and quilts supply the expected IDs, requests use the
// HTTP API, and its quilt reader reads the responses.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeQuilt } from '@mysten/walrus';
import { BlobEncoder } from '@mysten/walrus-wasm';

const [url, program] = process.argv.slice(2);
const SHARDS = 1000;
const ROWS = 334;
const COLUMNS = 667;

const say = (text) => console.log(`@mysten/walrus: ${text}`);

// Not exported by the package, but the package reads quilts with it.
const inside = (path) => import(new URL(path, import.meta.resolve('@mysten/walrus')));
const { QuiltReader } = await inside('./files/readers/quilt.mjs');
const { encodeQuiltPatchId } = await inside('./utils/quilts.mjs');

function noise(length, seed) {
	let state = seed >>> 0;
	return Uint8Array.from({ length }, () => {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		return state >>> 24;
	});
}

function blobId(bytes) {
	const [id] = new BlobEncoder(SHARDS).compute_metadata(bytes);
	return Buffer.from(id).toString('base64url');
}

async function ask(method, path, body, headers) {
	const response = await fetch(url + path, { method, body, headers });
	const bytes = new Uint8Array(await response.arrayBuffer());
	return { status: response.status, headers: response.headers, bytes };
}

async function json(method, path, body) {
	const { status, bytes } = await ask(method, path, body);
	assert.equal(status, 200, `${method} ${path}: ${Buffer.from(bytes)}`);
	return JSON.parse(Buffer.from(bytes).toString());
}

async function failing(status, reason, method, path, body, headers) {
	const answer = await ask(method, path, body, headers);
	assert.equal(answer.status, status, `${method} ${path}`);
	if (reason) {
		const { error } = JSON.parse(Buffer.from(answer.bytes).toString());
		assert.equal(error.code, status);
		assert.equal(error.details[0].reason, reason);
	}
}

const same = (got, wanted, what) =>
	assert.ok(Buffer.from(got).equals(Buffer.from(wanted)), `${what} came back otherwise`);

// Blobs: at the boundaries of the symbol matrix, and larger.
const cells = 2 * ROWS * COLUMNS;
for (const length of [0, 1, 1000, cells - 1, cells, cells + 1, 3_000_000]) {
	const bytes = noise(length, length + 1);
	const expected = blobId(bytes);
	const { newlyCreated } = await json('PUT', '/v1/blobs?epochs=3', bytes);
	assert.equal(newlyCreated.blobObject.blobId, expected, `the ID of ${length} bytes`);
	assert.equal(newlyCreated.blobObject.size, length);
	const { bytes: whole, headers } = await ask('GET', `/v1/blobs/${expected}`);
	same(whole, bytes, `a blob of ${length}`);
	assert.equal(headers.get('etag'), expected);
	const byObject = await ask('GET', `/v1/blobs/by-object-id/${newlyCreated.blobObject.id}`);
	same(byObject.bytes, bytes, 'a blob by its object');
	if (length > 100) {
		const part = await ask('GET', `/v1/blobs/${expected}`, undefined, {
			range: `bytes=7-${length - 2}`,
		});
		assert.equal(part.status, 206);
		same(part.bytes, bytes.subarray(7, length - 1), 'a range');
	}
	const dir = mkdtempSync(join(tmpdir(), 'walgit-fs-interop-'));
	writeFileSync(join(dir, 'blob'), bytes);
	const said = execFileSync(program, ['debug', 'blob-id', join(dir, 'blob')]).toString();
	rmSync(dir, { recursive: true });
	assert.ok(said.includes(expected), `walgit-fs debug blob-id says ${said}`);
}
say('7 blobs have the SDK’s IDs and came back whole, in part and by object');

// Quilts.
const quilts = {
	'one empty file': [{ identifier: 'empty', contents: noise(0, 1) }],
	'files with tags': [
		{ identifier: 'b.txt', contents: noise(1000, 2), tags: { kind: 'text', lang: 'en' } },
		{ identifier: 'a b.txt', contents: noise(700, 3) },
		{ identifier: 'ünïcode', contents: noise(7, 4), tags: { 'ключ': 'значение' } },
	],
	'files of all sizes': [
		{ identifier: 'big', contents: noise(3_000_000, 5) },
		{ identifier: 'small', contents: noise(10, 6), tags: { z: '1', a: '2' } },
		{ identifier: 'Mid', contents: noise(200_000, 7) },
	],
	'as many as fit': Array.from({ length: 666 }, (_, number) => ({
		identifier: `file-${number}`,
		contents: noise(number * 3, number),
	})),
};
for (const [what, blobs] of Object.entries(quilts)) {
	const { quilt, index } = encodeQuilt({ blobs, numShards: SHARDS, encodingType: 'RS2' });
	const expected = blobId(quilt);
	const form = new FormData();
	for (const { identifier, contents } of blobs) {
		form.append(identifier, new Blob([contents]));
	}
	const tagged = blobs.filter(({ tags }) => tags);
	form.append('_metadata', JSON.stringify(tagged.map(({ identifier, tags }) => ({ identifier, tags }))));
	const { blobStoreResult, storedQuiltBlobs } = await json('PUT', '/v1/quilts', form);
	const { blobObject } = blobStoreResult.newlyCreated;
	assert.equal(blobObject.blobId, expected, `the ID of the quilt ${what}`);
	const ids = index.patches.map(({ startIndex, endIndex }) =>
		encodeQuiltPatchId({ quiltId: expected, patchId: { version: 1, startIndex, endIndex } }));
	assert.deepEqual(
		storedQuiltBlobs.map(({ identifier, quiltPatchId }) => [identifier, quiltPatchId]),
		index.patches.map(({ identifier }, number) => [identifier, ids[number]]),
	);
	const stored = await ask('GET', `/v1/blobs/${expected}`);
	same(stored.bytes, quilt, `the quilt ${what}`);
	const again = await json('PUT', '/v1/blobs', quilt);
	assert.equal(again.alreadyCertified.blobId, expected);
	const list = await json('GET', `/v1/quilts/${expected}/patches`);
	assert.deepEqual(list.map(({ patch_id }) => patch_id), ids);

	// The blob interface of the SDK's reader, which fetches through devnet.
	const symbol = quilt.length / (ROWS * COLUMNS);
	const reader = new QuiltReader({
		blob: {
			blobId: expected,
			hasStartedLoadingFullBlob: true,
			getBytes: async () => stored.bytes,
			getRowSize: async () => symbol * COLUMNS,
			getColumnSize: async () => symbol * ROWS,
			getSymbolSize: async () => symbol,
		},
	});
	const sample = blobs.length > 20 ? blobs.filter((_, number) => number % 60 === 0) : blobs;
	for (const { identifier, contents, tags } of sample) {
		const number = index.patches.findIndex((patch) => patch.identifier === identifier);
		const byName = await ask('GET', `/v1/blobs/by-quilt-id/${expected}/${encodeURIComponent(identifier)}`);
		assert.equal(byName.status, 200, identifier);
		same(byName.bytes, contents, identifier);
		const byId = await ask('GET', `/v1/blobs/by-quilt-patch-id/${ids[number]}`);
		same(byId.bytes, contents, identifier);
		assert.deepEqual(list[number].tags, tags ?? {});
		const read = await reader.readBlob(index.patches[number].startIndex);
		assert.equal(read.identifier, identifier);
		same(read.blobContents, contents, `${identifier}, read by the SDK`);
	}
	say(`a quilt of ${what} has the SDK’s bytes, ID and patch IDs`);
}

// Errors.
const unknown = 'A'.repeat(43);
await failing(404, 'BLOB_NOT_FOUND', 'GET', `/v1/blobs/${unknown}`);
await failing(400, 'INVALID_ID_FORMAT', 'GET', '/v1/blobs/short');
await failing(416, 'INVALID_BYTE_RANGE', 'GET', `/v1/blobs/${blobId(noise(1000, 1001))}`, undefined, {
	range: 'bytes=5-',
});
await failing(400, 'MALFORMED_REQUEST', 'PUT', '/v1/blobs?epochs=54', noise(1, 1));
await failing(413, null, 'PUT', '/v1/blobs', new Uint8Array((10 << 20) + 1));
say('5 mistakes are answered as by the network');
