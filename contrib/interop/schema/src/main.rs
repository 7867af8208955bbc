//! Compiles only if the schema of the chain covers all queries of walgit-fs.

use sui_graphql_macros::graphql_query;

const QUESTIONS: [&str; 2] = [
    graphql_query!(@"../../../../src/chain/objects.graphql"),
    graphql_query!(@"../../../../src/chain/fields.graphql"),
];

fn main() {
    let count = QUESTIONS.len();
    println!("schema: the chain's own schema has all that our {count} questions ask for");
}
