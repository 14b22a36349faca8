"""Time series: imputation, forecasting, generation and anomalies, with uncertainty."""
