"""Operations in plain torch that implementations share: activation, dispatch, combine, sparse products."""
