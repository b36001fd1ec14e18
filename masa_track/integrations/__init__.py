"""Other frameworks' doors to this library, each imported only by those who use the framework."""
