#!/bin/sh
# A certificate authority of the tests' own, and a server called `localhost`.
# A test authority: its key is public, so no system may trust it.
set -eu
cd "$(dirname "$0")"
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -days 36500 -subj "/CN=walgit-fs tests" -out ca.pem
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out server.key
openssl req -new -key server.key -subj "/CN=localhost" |
	openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -out server.pem -extfile /dev/fd/3 3<<END
subjectAltName = DNS:localhost
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
END
rm -f ca.key ca.srl
