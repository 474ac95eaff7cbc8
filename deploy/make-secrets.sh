#!/bin/sh
# Makes the passwords that docker-compose.yml reads, where there are none yet. Prints none of them.
# Usage: make-secrets.sh [FOLDER]
set -eu
umask 077
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p "$folder"

# 32 random bytes as hex
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

make() {
    [ -s "$folder/$1" ] && return
    random >"$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
}

make postgres_password
make redis_password

# What crossfade needs of Redis and nothing else: keys and channels below its prefix, no command that looks at, changes
# or empties the server.
commands='+auth +hello +ping +select +client|setname +multi +exec +watch +unwatch +discard +evalsha +script|load'
commands="$commands +lpush +rpush +brpop +rpop +llen +sadd +srem +smembers +hset +hget +hdel +hlen"
commands="$commands +zadd +zrem +zrange +zrevrangebyscore +set +get +del +pexpire +time +publish +subscribe +unsubscribe"
digest=$(printf %s "$(cat "$folder/redis_password")" | sha256sum | cut -d' ' -f1)
{
    printf 'user default off\n'
    printf 'user crossfade on #%s ~crossfade:* resetchannels &crossfade:* -@all %s\n' "$digest" "$commands"
} >"$folder/redis_acl.new"
mv "$folder/redis_acl.new" "$folder/redis_acl"
# the containers' users are not the owner of these files; the folder keeps everybody else out
chmod 0444 "$folder/postgres_password" "$folder/redis_password" "$folder/redis_acl"
printf 'secrets are in %s\n' "$folder"
