//! Wire protocols: each turns bytes into a `ScoreRequest` and a `ScoreResponse` into bytes, and knows nothing of models.
